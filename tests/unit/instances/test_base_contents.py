"""The record of what a base contains."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from executor_samples import RecordingExecutor
from launch_samples import SETUP, SPACK_SETUP, UBUNTU_SETUP

from slurm_factory.exceptions import LXDError
from slurm_factory.instances import base_contents
from slurm_factory.instances.base_contents import read_record
from slurm_factory.plan import base_setup as base_record
from slurm_factory.plan.base_setup import load_record, record_path


def test_two_launches_that_write_the_same_record_at_the_same_time_both_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = datetime.now(UTC) - timedelta(days=1)
    record = read_record(SETUP, RecordingExecutor())
    replacing = Path.replace

    def replace_after_the_other(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replacing)
        base_record.write_record(record, SETUP, tmp_path)
        return replacing(path, target)

    monkeypatch.setattr(Path, "replace", replace_after_the_other)
    base_record.write_record(record, SETUP, tmp_path, made)
    assert load_record(SETUP, tmp_path) == record
    assert record_path(SETUP, tmp_path).stat().st_mtime == pytest.approx(made.timestamp(), abs=1)
    assert list(tmp_path.iterdir()) == [record_path(SETUP, tmp_path)]


def test_a_record_is_that_of_the_current_setup_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_record(SETUP, tmp_path) is None
    record = read_record(SETUP, RecordingExecutor())
    assert record["packages"]["zlib1g:amd64"] == "1:1.2.13.dfsg-1"
    assert "munge:amd64" not in record["packages"], "removed, with its configuration left"
    base_record.write_record(record, SETUP, tmp_path)
    assert load_record(SETUP, tmp_path) == record
    assert load_record(UBUNTU_SETUP, tmp_path) is None
    with monkeypatch.context() as patched:
        patched.setattr(base_record, "packages_for", lambda *_, **__: ("another-dev",))
        assert load_record(SETUP, tmp_path) is None
    for damaged in ("", "{", "[]", '{"base": "debian@13"}', "\udcff"):
        record_path(SETUP, tmp_path).write_bytes(damaged.encode("utf-8", "surrogateescape"))
        assert load_record(SETUP, tmp_path) is None


def test_the_record_of_a_spack_base_has_the_externals_and_says_which_spack_it_is(
    tmp_path: Path,
) -> None:
    record = read_record(SPACK_SETUP, RecordingExecutor())
    assert record["externals"]["packages"]["gmake"]["externals"][0]["spec"] == "gmake@4.3"
    assert record["checkouts"] == {"spack": "git:1234", "spack-packages": "sha256:abcd"}
    base_record.write_record(record, SPACK_SETUP, tmp_path)
    assert load_record(SPACK_SETUP, tmp_path) == record
    assert load_record(SETUP, tmp_path) is None
    del record["externals"]
    base_record.write_record(record, SPACK_SETUP, tmp_path)
    assert load_record(SPACK_SETUP, tmp_path) is None


@pytest.mark.parametrize("text", ["", "a: [", "a: 2001-99-99", "[" * 1000, "a: !!python/x y"])
def test_a_spack_base_without_externals_is_not_a_base(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answers = {"dpkg-query": "", "cat": text}
    monkeypatch.setattr(base_contents, "_output", lambda command, _: answers[command[0]])
    with pytest.raises(LXDError) as caught:
        read_record(SPACK_SETUP, RecordingExecutor())
    assert "lists no externals" in caught.value.details
