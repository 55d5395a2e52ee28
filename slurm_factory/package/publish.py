"""Takes finished files to their place, and finds them there again."""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slurm_factory.exceptions import OutputError
from slurm_factory.interrupts import signals_held
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.records import File, Manifest
from slurm_factory.package.tarball import Artifact
from slurm_factory.package.writing import not_written, write_text

MANIFEST_PATTERN = "*/slurm-*-manifest.json"


@dataclass(frozen=True)
class PublishedArtifact:
    """What `find_artifacts` found: a manifest (host path) and how things stand with it."""

    path: Path
    manifest: Manifest | None
    """None when it cannot be used."""
    problem: str
    """Why it does not count as an artifact; empty when it does."""


def describe(path: Path) -> Artifact:
    """Size and checksum of a file (host).

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return Artifact(path, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write_checksums(artifacts: Iterable[Artifact], destination: Path) -> Artifact:
    """Write the file (host) that `sha256sum -c` reads in the artifacts' directory.

    Raises:
        OutputError: It cannot be written.
    """
    lines = [f"{artifact.sha256}  {artifact.path.name}\n" for artifact in artifacts]
    return describe(write_text(destination, "".join(lines)))


def publish(manifest: Path, directory: Path) -> Path:
    """Move a manifest and the files it lists, which lie beside it, into `directory`.

    The old manifest of the same name goes first and the new one comes last: at any moment, also
    after a power failure, what has a manifest with matching checksums is whole. Signals wait until
    the last file is in its place.

    Args:
        manifest: Of the new artifact, in its staging directory (host).
        directory: Where finished artifacts of this version lie (host); made when missing. It must
            be on the file system of the staging directory.

    Returns:
        The manifest's path in `directory`.

    Raises:
        OutputError: A file is missing, or cannot be moved.
    """
    names = [file.name for file in load_manifest(manifest).files]
    try:
        _flush([manifest.parent / name for name in (*names, manifest.name)])
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory) as descriptor, signals_held():
            _require_one_file_system(manifest.parent, directory)
            (directory / manifest.name).unlink(missing_ok=True)
            os.fsync(descriptor)
            for name in names:
                (manifest.parent / name).replace(directory / name)
            os.fsync(descriptor)
            manifest.replace(directory / manifest.name)
            os.fsync(descriptor)
    except OSError as error:
        raise not_written(directory / manifest.name, error) from error
    return directory / manifest.name


def problem_with(manifest: Manifest, directory: Path) -> str:
    """Why the files beside a manifest are not what it says; "" when they are.

    Reads every file: 20 MB take about 20 ms.
    """
    for file in manifest.files:
        problem = _problem_with_file(directory / file.name, file)
        if problem:
            return problem
    return ""


def find_artifacts(builds: Path) -> tuple[PublishedArtifact, ...]:
    """Every manifest below the directory of builds (host), by name, sound or not."""
    return tuple(_inspect(path) for path in sorted(builds.glob(MANIFEST_PATTERN)))


def _inspect(path: Path) -> PublishedArtifact:
    try:
        manifest = load_manifest(path)
    except OutputError as error:
        return PublishedArtifact(path, None, error.details)
    return PublishedArtifact(path, manifest, problem_with(manifest, path.parent))


def _problem_with_file(path: Path, expected: File) -> str:
    try:
        found = describe(path)
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    if (found.size, found.sha256) != (expected.size, expected.sha256):
        return f"{path.name} is not the file that the manifest describes"
    return ""


def _flush(paths: Iterable[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """Hold the directory against other publishers; leaves no lock file behind."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _require_one_file_system(staging: Path, directory: Path) -> None:
    # Found out in the middle, by a rename that fails, it would cost the old artifact.
    if staging.stat().st_dev != directory.stat().st_dev:
        raise OutputError(
            f"Files cannot be moved from {staging} to {directory}.",
            details="They are on different file systems.",
            resolution="Keep the whole cache directory on one: set SLURM_FACTORY_CACHE_DIR.",
        )
