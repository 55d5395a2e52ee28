"""Files that are there whole or not at all."""

import errno
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from slurm_factory.exceptions import OutputError
from slurm_factory.util.files import atomic_write, file_errors


def test_a_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_two_that_write_the_same_file_do_not_take_each_others(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write(b"fir")
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_text() == "second"
        first.write(b"st")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_nothing_is_left_of_a_file_that_did_not_become_whole(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def write_half() -> None:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_file_whose_making_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkstemp

    def make_and_interrupt(**arguments: Any) -> tuple[int, str]:
        made = make(**arguments)
        signal.raise_signal(signal.SIGINT)
        return made

    monkeypatch.setattr(tempfile, "mkstemp", make_and_interrupt)
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "file"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "named", "brief", "details"),
    [
        (errno.EACCES, None, "/c/file could not be used.", "Permission denied."),
        (errno.EACCES, "/c/file", "/c/file could not be used.", "Permission denied."),
        (errno.ENOTDIR, "/c", "/c/file could not be used.", "Not a directory: /c."),
        (errno.EACCES, "/c/file/x", "/c/file could not be used.", "Permission denied: /c/file/x."),
        (errno.EACCES, "/c/.file.k3", "/c/file could not be used.", "Permission denied: /c/.file"),
        (errno.EACCES, "/etc/site.crt", "/etc/site.crt could not be read.", "Permission denied."),
        (errno.EACCES, "file", "/c/file could not be used.", "Permission denied: file."),
        (errno.ENOSPC, "/etc/x", "/c/file could not be written.", "No space left on device: /etc"),
    ],
)
def test_what_the_system_refuses_is_reported_of_the_file_that_it_is_about(
    number: int, named: str | None, brief: str, details: str
) -> None:
    with pytest.raises(OutputError) as caught, file_errors(Path("/c/file"), "used"):
        raise OSError(number, os.strerror(number), named)
    assert caught.value.brief == brief
    assert caught.value.details.startswith(details)
    way = (
        "df -h /c;"
        if number == errno.ENOSPC
        else f"ls -ld {Path(brief.split(maxsplit=1)[0]).parent})"
    )
    assert way in caught.value.resolution
