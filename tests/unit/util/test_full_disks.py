"""A full disk and an exceeded quota are distinguished from other errors."""

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest

from slurm_factory.util.files import NEARLY_FULL_BYTES, disk_full_lines, has_no_room


def test_lines_about_disks_and_quotas_are_found_among_others() -> None:
    said = ["cc: error: x", "  as: No space left on device", "[Errno 122] Disk quota exceeded: 'a'"]
    assert disk_full_lines(said) == [line.strip() for line in said[1:]]


def test_a_source_that_mentions_a_full_disk_is_none() -> None:
    said = [
        '    [ENOSPC] = "No space left on device",',
        "checking for no space left on device... no",
    ]
    assert disk_full_lines(said) == []


def test_a_disk_with_room_is_not_called_full(tmp_path: Path) -> None:
    assert not has_no_room(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_little_free_space_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=NEARLY_FULL_BYTES - 1))
    assert has_no_room(tmp_path)


@pytest.mark.parametrize(
    ("number", "full"), [(errno.EDQUOT, True), (errno.ENOSPC, True), (errno.EOPNOTSUPP, False)]
)
def test_a_quota_counts_although_the_file_system_has_room(
    number: int, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert has_no_room(tmp_path) is full


def test_a_limit_on_the_size_of_files_is_not_a_full_disk(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (NEARLY_FULL_BYTES // 2, hard))
    try:
        assert not has_no_room(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
