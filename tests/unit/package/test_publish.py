"""What has a manifest with matching checksums is whole, at any moment."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from package_samples import IDENTITY, make_manifest, stage

from slurm_factory.exceptions import OutputError
from slurm_factory.package import publish as publish_module
from slurm_factory.package.manifest import File, load_manifest, write_manifest
from slurm_factory.package.publish import find_artifacts, problem_with, publish

NAMES = sorted(
    (
        IDENTITY.software_tarball,
        IDENTITY.module_tarball,
        IDENTITY.checksums,
        IDENTITY.manifest,
    )
)


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    return tmp_path / "builds"


def test_published_artifact_is_found_complete_and_passes_sha256sum(
    tmp_path: Path, builds: Path
) -> None:
    path = publish(stage(tmp_path / "work"), builds / "24.11")
    assert sorted(path.name for path in (builds / "24.11").iterdir()) == NAMES
    (found,) = find_artifacts(builds)
    assert (found.path, found.problem) == (path, "")
    assert found.manifest == load_manifest(path)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", IDENTITY.checksums],
        cwd=builds / "24.11",
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.count(": OK\n") == 2


CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")
"""Audit events of what changes directories (Python's library reference, "Audit events table")."""


def killed_after(changes: int, act: Callable[[], object]) -> bool:
    """Run `act` in a process that is killed instead of its next change; whether it was."""
    child = os.fork()
    if child == 0:
        left = iter([None] * changes)

        def hook(event: str, _: object) -> None:
            if event in CHANGES and next(left, "none") == "none":
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            act()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_everywhere(act: Callable[[int], Callable[[], object]]) -> int:
    """Kill `act` after none, one, two … changes, until it comes to its end; returns how many."""
    changes = 0
    while killed_after(changes, act(changes)):
        changes += 1
    return changes


def the_artifact(directory: Path) -> str:
    """The content of the only artifact there is, and whole: old or new."""
    (found,) = find_artifacts(directory.parent)
    assert found.problem == ""
    with tarfile.open(found.path.parent / IDENTITY.software_tarball) as tarball:
        file = tarball.extractfile("file")
        assert file is not None
        content = file.read().decode()
    assert [path.name for path in directory.iterdir() if path.name not in NAMES] == []
    return content


def test_a_build_that_is_killed_anywhere_leaves_the_old_artifact_or_the_new_one(
    tmp_path: Path,
) -> None:
    def replaced(changes: int) -> Callable[[], object]:
        directory = tmp_path / f"{changes}/builds/24.11"
        publish(stage(directory / "../../old", "old"), directory)
        manifest = stage(directory / "../../new", "new")
        return lambda: publish(manifest, directory)

    changes = kill_everywhere(replaced)
    outcomes = [the_artifact(tmp_path / f"{n}/builds/24.11") for n in range(changes + 1)]
    decided = outcomes.index("new")
    assert outcomes == ["old"] * decided + ["new"] * (changes + 1 - decided)
    assert 0 < decided < changes - len(NAMES)


# The first change is that the directory is asked for, the second decides.
@pytest.mark.parametrize("killed", range(2, 2 + len(NAMES)))
def test_who_finishes_what_a_killed_build_left_may_be_killed_anywhere_too(
    tmp_path: Path, killed: int
) -> None:
    left = tmp_path / "left/builds/24.11"
    publish(stage(tmp_path / "old", "old"), left)
    manifest = stage(tmp_path / "new", "new")
    assert killed_after(killed, lambda: publish(manifest, left))

    def finishing(changes: int) -> Callable[[], object]:
        shutil.copytree(tmp_path / "left", tmp_path / f"{changes}")
        return lambda: find_artifacts(tmp_path / f"{changes}/builds")

    for changes in range(kill_everywhere(finishing) + 1):
        assert the_artifact(tmp_path / f"{changes}/builds/24.11") == "new"


def test_a_first_build_that_is_killed_leaves_nothing_or_the_new_artifact(tmp_path: Path) -> None:
    def first(changes: int) -> Callable[[], object]:
        directory = tmp_path / f"{changes}/builds/24.11"
        manifest = stage(directory / "../../new", "new")
        return lambda: publish(manifest, directory)

    changes = kill_everywhere(first)
    found = [find_artifacts(tmp_path / f"{n}/builds") for n in range(changes + 1)]
    assert {len(artifacts) for artifacts in found} == {0, 1}
    assert [a.problem for artifacts in found for a in artifacts if a.problem] == []


def test_an_artifact_of_a_killed_build_that_is_not_whole_does_not_replace_the_old_one(
    tmp_path: Path, builds: Path
) -> None:
    directory = builds / "24.11"
    publish(stage(tmp_path / "old", "old"), directory)
    staged = stage(tmp_path / "new", "new").parent
    (staged / IDENTITY.module_tarball).write_text("damaged")
    staged.rename(directory / f".{IDENTITY.stem}.complete")
    assert the_artifact(directory) == "old"


def test_a_link_in_place_of_what_a_killed_build_left_is_not_followed(
    tmp_path: Path, builds: Path
) -> None:
    directory = builds / "24.11"
    publish(stage(tmp_path / "old", "old"), directory)
    staged = stage(tmp_path / "new", "new").parent
    (directory / f".{IDENTITY.stem}.complete").symlink_to(staged)
    assert the_artifact(directory) == "old"
    assert {*NAMES} <= {path.name for path in staged.iterdir()}


@pytest.mark.parametrize("moment", range(3))
def test_ctrl_c_while_files_are_moved_leaves_the_new_artifact_whole(
    tmp_path: Path, builds: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    directory = builds / "24.11"
    publish(stage(tmp_path / "old", "old"), directory)
    staged = stage(tmp_path / "new", "new")
    wanted = load_manifest(staged)
    original = Path.replace
    moves = itertools.count()

    def interrupted(path: Path, target: Path) -> Path:
        if next(moves) == moment:
            os.kill(os.getpid(), signal.SIGINT)
        return original(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(staged, directory)
    (found,) = find_artifacts(builds)
    assert (found.problem, found.manifest) == ("", wanted)


def test_new_artifact_takes_the_place_of_the_old(tmp_path: Path, builds: Path) -> None:
    publish(stage(tmp_path / "old", "old"), builds / "24.11")
    before = (builds / "24.11" / IDENTITY.software_tarball).read_bytes()
    publish(stage(tmp_path / "new", "new"), builds / "24.11")
    assert (builds / "24.11" / IDENTITY.software_tarball).read_bytes() != before
    assert [found.problem for found in find_artifacts(builds)] == [""]


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damaged_artifact_is_not_reported_as_complete(
    tmp_path: Path, builds: Path, damage: str
) -> None:
    path = publish(stage(tmp_path / "work"), builds / "24.11")
    tarball = path.parent / IDENTITY.software_tarball
    data = bytearray(tarball.read_bytes())
    data[-1] ^= 1
    if damage == "truncate":
        os.truncate(tarball, len(data) - 1)
    elif damage == "flip":
        tarball.write_bytes(data)
    else:
        tarball.unlink()
    (found,) = find_artifacts(builds)
    assert IDENTITY.software_tarball in found.problem


def test_missing_staged_file_leaves_the_old_artifact_whole(tmp_path: Path, builds: Path) -> None:
    publish(stage(tmp_path / "old", "old"), builds / "24.11")
    manifest = stage(tmp_path / "new", "new")
    (manifest.parent / IDENTITY.module_tarball).unlink()
    with pytest.raises(OutputError, match="could not be read"):
        publish(manifest, builds / "24.11")
    assert [found.problem for found in find_artifacts(builds)] == [""]


def test_other_file_system_is_found_out_before_the_old_artifact_is_touched(
    tmp_path: Path, builds: Path
) -> None:
    elsewhere = Path("/dev/shm")
    if elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is on the file system of the temporary directory")
    publish(stage(tmp_path / "old", "old"), builds / "24.11")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish_module, "_flush", lambda paths: None)
        manifest = make_manifest(load_manifest(builds / "24.11" / IDENTITY.manifest).files)
        staged = write_manifest(manifest, elsewhere / f"slurm-factory-test-{os.getpid()}")
        try:
            with pytest.raises(OutputError, match="Cannot move"):
                publish(staged, builds / "24.11")
        finally:
            staged.unlink()
            staged.parent.rmdir()
    assert [found.problem for found in find_artifacts(builds)] == [""]


def test_destination_that_is_a_file_is_an_output_error(tmp_path: Path, builds: Path) -> None:
    builds.write_text("")
    with pytest.raises(OutputError) as caught:
        publish(stage(tmp_path / "work"), builds / "24.11")
    assert caught.value.exit_code == 7


def test_unusable_manifest_is_listed_with_its_problem_and_hides_no_other(
    tmp_path: Path, builds: Path
) -> None:
    publish(stage(tmp_path / "work"), builds / "24.11")
    broken = builds / "25.05" / "slurm-25.05-manifest.json"
    broken.parent.mkdir()
    broken.write_text("{")
    good, bad = find_artifacts(builds)
    assert good.problem == ""
    assert (bad.path, bad.manifest) == (broken, None)
    assert bad.problem == "It is not a manifest of slurm-factory."


def test_no_builds_directory_means_no_artifacts(builds: Path) -> None:
    assert find_artifacts(builds) == ()


def test_size_that_differs_is_a_problem_even_where_the_name_matches(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    manifest = make_manifest((File(name="x", size=1, sha256="0" * 64),))
    assert problem_with(manifest, tmp_path).startswith("x does not match")
