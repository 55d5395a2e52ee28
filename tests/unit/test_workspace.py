"""The directories of a build: locked while it runs, kept or forgotten afterwards."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest
from fake_lxc import locked_elsewhere
from plan_samples import sample_settings

from slurm_factory.cache_dir import make_cache_dir
from slurm_factory.exceptions import BuildError, LXDError, OutputError
from slurm_factory.util.locks import is_running
from slurm_factory.workspace import (
    NEEDED_BYTES,
    Workspace,
    killed_builds,
    new_build_id,
    note_instance,
    open_workspace,
    prepare_cache,
)


def touch_and_raise(file: Path, error: BaseException) -> None:
    file.parent.mkdir(exist_ok=True)
    file.touch()
    raise error


def test_build_ids_sort_by_time_fit_an_instance_and_never_meet() -> None:
    ids = {new_build_id("25.05.8") for _ in range(200)}
    assert len(ids) == 200
    assert all(re.fullmatch(r"\d{8}-\d{6}-25-05-8-[0-9a-f]{6}", build_id) for build_id in ids)
    assert all(len(f"build-{build_id}") < 63 for build_id in ids)


def test_a_build_is_seen_running_by_another_process_and_no_longer_when_it_was_killed(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "x.lock"
    with locked_elsewhere(lock) as process:
        assert is_running(lock)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not is_running(lock)


def test_our_own_open_workspace_is_seen_running_by_another_process(tmp_path: Path) -> None:
    look = (
        "import sys; from pathlib import Path; from slurm_factory.util.locks import is_running;"
        " print(is_running(Path(sys.argv[1])))"
    )
    with open_workspace("id", sample_settings(tmp_path)) as workspace:
        command = [sys.executable, "-c", look, str(workspace.lock)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_looking_at_a_lock_does_not_leave_one_behind(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    assert not is_running(lock)
    assert not lock.exists()
    lock.touch()
    assert not is_running(lock)
    assert not is_running(lock)


def test_a_lock_that_may_not_be_looked_at_counts_as_running(
    tmp_path: Path, close_to_us: Callable[[Path], None]
) -> None:
    lock = tmp_path / "theirs/x.lock"
    lock.parent.mkdir()
    lock.touch()
    assert not is_running(lock)
    close_to_us(lock.parent)
    assert is_running(lock)


@pytest.mark.parametrize("kind", ["directory", "pipe", "link to a file", "link to nothing", "loop"])
def test_what_is_not_a_file_is_no_lock_that_a_build_holds(tmp_path: Path, kind: str) -> None:
    lock, file = tmp_path / "x.lock", tmp_path / "thesis"
    file.write_text("years of work")
    if kind == "directory":
        lock.mkdir()
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        targets = {"link to a file": file, "link to nothing": tmp_path / "gone", "loop": lock}
        lock.symlink_to(targets[kind])
    assert not is_running(lock)
    assert file.read_text() == "years of work"
    assert not (tmp_path / "gone").exists()


def test_looking_at_what_is_said_to_be_a_lock_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    """Who may use the LXD project can note any path as the lock of an instance."""
    file = tmp_path / "thesis"
    file.write_text("years of work")
    assert not is_running(file)
    assert file.read_text() == "years of work"


def test_the_work_directory_is_never_there_without_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    make = Path.mkdir

    def watched(path: Path, *arguments: Any, **named: Any) -> None:
        make(path, *arguments, **named)
        if path.name == "id":
            seen.append(is_running(Path(f"{path}.lock")))

    monkeypatch.setattr(Path, "mkdir", watched)
    with open_workspace("id", sample_settings(tmp_path)):
        pass
    assert seen == [True]


def test_nothing_of_the_work_is_left_after_success(tmp_path: Path) -> None:
    settings = sample_settings(tmp_path)
    with open_workspace("id", settings) as workspace:
        (workspace.work / "stage").mkdir()
        (workspace.work / "stage/file").touch()
    assert list(settings.work_dir.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_nothing_of_the_work_is_left_after_an_interruption(
    tmp_path: Path, stop: type[BaseException]
) -> None:
    settings = sample_settings(tmp_path)
    with pytest.raises(stop), open_workspace("id", settings) as workspace:
        touch_and_raise(workspace.work / "file", stop())
    assert list(settings.work_dir.iterdir()) == []


def test_the_work_is_kept_after_a_failure_that_can_be_looked_into(tmp_path: Path) -> None:
    settings = sample_settings(tmp_path)
    with pytest.raises(BuildError), open_workspace("id", settings) as workspace:
        touch_and_raise(workspace.work / "file", BuildError("make failed."))
    assert (workspace.work / "file").exists()
    assert not workspace.lock.exists()


def test_of_a_failure_of_lxd_only_the_lock_is_kept_by_which_its_instance_is_found(
    tmp_path: Path,
) -> None:
    settings = sample_settings(tmp_path)
    build_id = new_build_id("25.05.8")
    with pytest.raises(LXDError), open_workspace(build_id, settings) as workspace:
        touch_and_raise(workspace.work / "file", LXDError("The LXD daemon does not run."))
    assert list(settings.work_dir.iterdir()) == [workspace.lock]
    assert [left.build_id for left in killed_builds(settings)] == [build_id]


def test_lock_stays_where_the_launch_may_have_left_an_instance(tmp_path: Path) -> None:
    settings = sample_settings(tmp_path)
    build_id = new_build_id("25.05.8")

    def fail_to_launch(workspace: Workspace) -> None:
        note_instance(workspace.lock)
        raise LXDError("The LXD daemon does not run.")

    with pytest.raises(LXDError), open_workspace(build_id, settings) as workspace:
        fail_to_launch(workspace)
    assert [left.build_id for left in killed_builds(settings)] == [build_id]
    assert list(settings.work_dir.iterdir()) == [workspace.lock]


def test_a_build_that_has_made_its_lock_and_not_locked_it_yet_was_not_killed(
    tmp_path: Path,
) -> None:
    settings = sample_settings(tmp_path)
    prepare_cache(settings)
    workspace = Workspace(new_build_id("25.05.8"), settings)
    workspace.lock.touch()
    assert list(killed_builds(settings)) == []
    long_ago = workspace.lock.stat().st_mtime - 600
    os.utime(workspace.lock, (long_ago, long_ago))
    assert list(killed_builds(settings)) == [workspace]


def test_a_build_that_locks_while_it_is_looked_at_was_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = sample_settings(tmp_path)
    prepare_cache(settings)
    workspace = Workspace(new_build_id("25.05.8"), settings)
    workspace.lock.touch()
    read, lock = Path.read_text, filelock.FileLock(workspace.lock)

    def lock_and_read(path: Path, *arguments: Any) -> str:
        lock.acquire()
        path.write_text(settings.project_name)
        return read(path, *arguments)

    monkeypatch.setattr(Path, "read_text", lock_and_read)
    assert list(killed_builds(settings)) == []
    lock.release()


def test_a_failure_before_anything_was_staged_leaves_nothing(tmp_path: Path) -> None:
    settings = sample_settings(tmp_path)
    with pytest.raises(LXDError), open_workspace("id", settings):
        raise LXDError("The LXD daemon does not run.")
    assert list(settings.work_dir.iterdir()) == []


def test_a_finished_package_that_could_not_be_published_is_kept(tmp_path: Path) -> None:
    settings = sample_settings(tmp_path)
    workspace = Workspace("id", settings)
    manifest = workspace.artifacts / "slurm-manifest.json"
    with pytest.raises(OutputError), open_workspace("id", settings):
        touch_and_raise(manifest, OutputError("No space left."))
    assert manifest.exists()
    assert list(killed_builds(settings)) == []


def test_the_cache_is_for_this_user_alone_and_nothing_in_it_for_the_world(tmp_path: Path) -> None:
    settings = sample_settings(tmp_path / "deep/cache")
    prepare_cache(settings)
    assert settings.cache_dir.stat().st_mode & 0o777 == 0o700
    assert not [p for p in settings.cache_dir.rglob("*") if p.stat().st_mode & 0o022]
    prepare_cache(settings)


@pytest.mark.parametrize("part", ["", "work", "builds"])
def test_a_file_in_place_of_a_cache_directory_is_an_output_error(tmp_path: Path, part: str) -> None:
    cache = tmp_path / "cache"
    if part:
        make_cache_dir(sample_settings(cache))
    (cache / part).write_text("not a directory")
    with pytest.raises(OutputError) as caught:
        prepare_cache(sample_settings(cache))
    assert str(cache) in caught.value.brief
    assert "File exists" in caught.value.details


def test_a_cache_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be used"):
        prepare_cache(sample_settings(tmp_path / "file/cache"))


def test_a_cache_that_may_not_be_written_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(OutputError) as caught:
        prepare_cache(sample_settings(tmp_path))
    assert caught.value.details == "Permission denied."
    assert "SLURM_FACTORY_CACHE_DIR" in caught.value.resolution


def test_a_full_disk_is_an_output_error_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=NEEDED_BYTES - 1))
    with pytest.raises(OutputError) as caught, open_workspace("id", sample_settings(tmp_path)):
        pass
    assert caught.value.exit_code == 7
    assert "1023 MiB" in caught.value.details
