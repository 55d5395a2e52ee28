"""What has a manifest with matching checksums is whole, at any moment."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from package_samples import IDENTITY, make_manifest, stage

from slurm_factory.exceptions import OutputError
from slurm_factory.package import publish as publish_module
from slurm_factory.package.manifest import load_manifest, write_manifest
from slurm_factory.package.publish import find_artifacts, problem_with, publish
from slurm_factory.package.records import File

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


def test_replacing_interrupted_anywhere_never_shows_a_mixture(
    tmp_path: Path, builds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerFailureError(Exception):
        pass

    moves = 0
    original = Path.replace
    for survived in range(len(NAMES)):
        directory = builds / str(survived)
        publish(stage(tmp_path / f"old{survived}", "old"), directory)
        manifest = stage(tmp_path / f"new{survived}", "new")
        moves = 0

        def failing(path: Path, target: Path, limit: int = survived) -> Path:
            nonlocal moves
            if moves == limit:
                raise PowerFailureError
            moves += 1
            return original(path, target)

        monkeypatch.setattr(Path, "replace", failing)
        with pytest.raises(PowerFailureError):
            publish(manifest, directory)
        monkeypatch.setattr(Path, "replace", original)
        assert find_artifacts(builds) == ()
        assert moves == survived


@pytest.mark.parametrize("moment", range(3))
def test_ctrl_c_while_files_are_moved_leaves_the_new_artifact_whole(
    tmp_path: Path, builds: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    directory = builds / "24.11"
    publish(stage(tmp_path / "old", "old"), directory)
    staged = stage(tmp_path / "new", "new")
    wanted = load_manifest(staged)
    original = Path.replace
    moves = iter(range(len(NAMES)))

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
    with pytest.raises(OutputError, match="could not be written"):
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
            with pytest.raises(OutputError, match="cannot be moved"):
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
    assert problem_with(manifest, tmp_path).startswith("x is not the file")
