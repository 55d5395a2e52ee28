"""What Spack prints and logs, recorded with Spack 1.1.0: progress, and why packages failed."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from spack_samples import LOCK, MUNGE, SLURM, recorded

from slurm_factory.instances.instance import COMPILER_KILLED
from slurm_factory.recipes.spack.failure import Cause, Reason, explain, failed_packages
from slurm_factory.recipes.spack.install import InstallProgress
from slurm_factory.recipes.spack.lock import load_lock, lock_key, read_lock


def progress_of(lock: str, output: str) -> InstallProgress:
    """Progress after a recorded output, on a clock that goes one second a line."""
    seconds: Iterator[int] = count()
    progress = InstallProgress(
        read_lock(recorded(lock)).packages, clock=lambda: float(next(seconds))
    )
    for line in recorded(output).splitlines():
        progress.take(line)
    return progress


def reason_in(log: str) -> Reason:
    reason = explain(recorded(log).splitlines())
    assert reason is not None
    return reason


# --- progress -----------------------------------------------------------------------------------


def test_all_packages_of_a_first_build_count_as_built_and_externals_not_at_all() -> None:
    progress = progress_of("toymain.lock", "install-built.txt")
    snapshot = progress.snapshot()
    assert (snapshot.done, snapshot.total, snapshot.cached) == (4, 4, 0)
    assert {state.node.name for state in progress.states.values()} == {
        *("compiler-wrapper", "gcc-runtime", "toydep", "toymain")
    }
    assert all(state.seconds > 0 for state in progress.states.values())


def test_packages_from_the_build_cache_are_distinguished_from_those_that_were_built() -> None:
    snapshot = progress_of("toymain.lock", "install-cached.txt").snapshot()
    assert (snapshot.done, snapshot.total, snapshot.cached) == (4, 4, 4)


def test_a_damaged_entry_of_the_build_cache_counts_as_built_and_is_known() -> None:
    progress = progress_of("toymain.lock", "install-damaged.txt")
    assert [s.node.name for s in progress.states.values() if s.damaged] == ["toydep"]
    assert progress.snapshot().cached == 3


def test_what_is_being_worked_on_is_shown_with_phase_and_time() -> None:
    progress = progress_of("toymain.lock", "install-built.txt")
    progress = InstallProgress([s.node for s in progress.states.values()], clock=lambda: 70.0)
    state = progress.take("hvfdzmv toydep@1.0: staging")
    assert state is not None
    state.began = 5.0
    progress.take("hvfdzmv toydep@1.0: build")
    assert progress.snapshot().active == ("toydep@1.0: build (1 min 05 s)",)
    last = progress.take("hvfdzmv toydep@1.0: finished")
    assert progress.snapshot(last).active == ()
    assert progress.snapshot(last).last == "toydep@1.0 built in 1 min 05 s"


def test_lines_that_only_look_like_progress_change_nothing() -> None:
    progress = progress_of("toymain.lock", "install-built.txt")
    before = progress.snapshot()
    for line in ("", "abcdefg other@1.0: failed", "==> Error: hvfdzmv toydep@1.0: failed", "a: b"):
        assert progress.take(line) is None
    assert progress.snapshot() == before


def test_a_package_that_failed_and_is_tried_again_is_not_done_before_it_is_finished() -> None:
    progress = progress_of("toyfail.lock", "install-toyfail.txt")
    assert (progress.snapshot().done, progress.snapshot().total) == (3, 4)
    failed = progress.find("iosvolvixskehbkfnrgfqgpcmiwlinba")
    assert failed is not None
    assert (failed.failed, failed.phase) == (True, "build")
    progress.take("iosvolv toyfail@1.0: staging")
    assert len(progress.snapshot().active) == 1
    progress.take("iosvolv toyfail@1.0: finished")
    assert progress.snapshot().done == 4


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toyfail", "toyfetch", "toynet"])
def test_the_package_that_failed_is_named_with_its_log(name: str) -> None:
    (failed,) = failed_packages(recorded(f"install-{name}.txt").splitlines())
    assert failed.label == f"{name}@1.0"
    assert len(failed.hash) == 32
    assert failed.log.name == "spack-build-out.txt"
    assert f"spack-stage-{name}-1.0-{failed.hash}" in failed.log.parts


def test_a_compilers_error_is_the_reason_and_not_spacks_traceback() -> None:
    reason = reason_in("log-toyfail.txt")
    assert reason.cause is Cause.BUILD
    assert reason.lines == (
        "toyfail.c:1:28: error: 'undeclared_thing' undeclared (first use in this function)",
        "make: *** [Makefile:4: toyfail.o] Error 1",
    )


def test_a_server_that_does_not_answer_is_worth_another_attempt() -> None:
    reason = reason_in("log-toyfetch.txt")
    assert (reason.cause, reason.transient) == (Cause.FETCH, True)
    assert "https://127.0.0.1:9/toyfetch-1.0.tar.gz" in reason.lines[0]
    assert "Connection refused" in reason.lines[0]


@pytest.mark.parametrize(("name", "cause"), [("fetch", Cause.FETCH), ("net", Cause.CHECKSUM)])
def test_the_old_installer_shows_the_same_reason_as_a_log(name: str, cause: Cause) -> None:
    reason = reason_in(f"old-toy{name}.txt")
    assert reason.cause is cause
    assert reason.lines == reason_in(f"log-toy{name}.txt").lines


def test_a_log_whose_end_was_lost_gives_no_wrong_reason() -> None:
    log = recorded("log-toyfetch.txt").splitlines()
    assert explain(log[:8]) is None


def test_what_only_looks_like_an_error_of_python_is_none() -> None:
    assert explain(["checking for FetchError: no", "FetchError: All of them"]) is None


def test_a_source_that_is_nowhere_is_not_asked_for_again() -> None:
    log = recorded("log-toyfetch.txt").replace("[Errno 111] Connection refused", "HTTP Error 404")
    reason = explain(log.splitlines())
    assert reason is not None
    assert (reason.cause, reason.transient) == (Cause.FETCH, False)


def test_a_wrong_checksum_is_distinguished_from_a_failed_download_and_not_tried_again() -> None:
    reason = reason_in("log-toynet.txt")
    assert (reason.cause, reason.transient) == (Cause.CHECKSUM, False)
    assert "sha256 checksum failed" in reason.lines[0]
    assert "Expected 000000" in reason.lines[1]


def test_a_mirror_with_a_wrong_file_and_no_other_source_is_a_wrong_checksum() -> None:
    log = recorded("log-toyfetch.txt").replace("DetailedURLError: GET", "ChecksumError: sha256")
    reason = explain(log.splitlines())
    assert reason is not None
    assert (reason.cause, reason.transient) == (Cause.CHECKSUM, False)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("as: fatal error: No space left on device", Cause.DISK),
        ("OSError: [Errno 28] No space left on device", Cause.DISK),
        ("as: fatal error: can't write x.o: Disk quota exceeded", Cause.DISK),
        (f"gcc: fatal error: {COMPILER_KILLED} cc1", Cause.MEMORY),
        ("configure: error: no acceptable C compiler found", Cause.BUILD),
    ],
)
def test_disk_and_memory_are_distinguished_from_what_the_source_is_to_blame_for(
    line: str, cause: Cause
) -> None:
    log = ["checking for gcc... gcc", line, "Traceback (most recent call last):", "  File x"]
    reason = explain(log)
    assert reason is not None
    assert (reason.cause, reason.lines[0]) == (cause, line)


def test_a_full_disk_that_only_a_python_error_shows_is_found() -> None:
    log = ["Traceback (most recent call last):", "OSError: [Errno 28] No space left on device"]
    reason = explain(log)
    assert reason is not None
    assert reason.cause is Cause.DISK


def test_a_disk_that_a_source_fills_is_not_a_failed_download() -> None:
    reason = reason_in("log-toystage.txt")
    assert (reason.cause, reason.transient) == (Cause.DISK, False)
    assert "toymain-1.0.tar.gz: OSError: [Errno 28] No space left on device" in reason.lines[0]


@pytest.mark.parametrize("name", ["log-toypush.txt", "old-toypush.txt"])
def test_a_build_cache_that_is_full_is_distinguished_from_a_package_that_cannot_be_built(
    name: str,
) -> None:
    reason = reason_in(name)
    assert reason.cause is Cause.DISK
    assert reason.lines[0].startswith("Failed to push toymain@1.0/")


def test_a_log_that_shows_nothing_gives_no_reason() -> None:
    assert explain([]) is None
    assert explain(["checking for gcc... gcc"]) is None


# --- locks --------------------------------------------------------------------------------------


def test_run_time_packages_come_roots_first_and_without_what_is_only_needed_to_build() -> None:
    lock = read_lock(json.dumps(LOCK))
    assert [node.name for node in lock.run_time] == ["slurm", "munge", "lz4", "glibc", "cmake"]
    assert [node.name for node in lock.packages] == ["slurm", "munge", "lz4"]
    wrapper = read_lock(recorded("toymain.lock"))
    assert "compiler-wrapper" not in [node.name for node in wrapper.run_time]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '"x"', '{"roots": [], "concrete_specs": {}}'),
        '{"roots": [{"hash": "a"}], "concrete_specs": {}}',
        json.dumps(LOCK | {"concrete_specs": {SLURM: LOCK["concrete_specs"][SLURM]}}),
        json.dumps(LOCK)[: len(json.dumps(LOCK)) // 2],
        '{"roots": [{"hash": "a"}], "concrete_specs": {"a": {"name": "x"}}}',
        '{"roots": [{"hash": "a"}], "concrete_specs": {"a": 3}}',
    ],
)
def test_a_damaged_lock_is_not_a_lock(text: str, tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    assert load_lock(path) is None
    with pytest.raises(ValueError, match=r"lock|JSON|Expecting|Unterminated|delimiter"):
        read_lock(text)


def test_a_kept_lock_serves_only_the_very_same_project_recipes_and_base() -> None:
    files = {"spack.yaml": "spack:"}
    record = {"base": "debian@12", "externals": {"packages": {}}, "packages": {"zlib": "1"}}
    key = lock_key(files, "repository", record)
    assert key == lock_key(files, "repository", record | {"packages": {"zlib": "2"}})
    others = [
        lock_key(files | {"site.yaml": "config:"}, "repository", record),
        lock_key(files, "other", record),
        lock_key(files, "repository", record | {"externals": {"packages": {"cmake": {}}}}),
        lock_key(files, "repository", record | {"checkouts": {"spack": "git:3"}}),
    ]
    assert key not in others
    assert MUNGE in read_lock(json.dumps(LOCK)).nodes
