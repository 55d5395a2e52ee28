"""Publish finished files, and find them again."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slurm_factory.exceptions import OutputError
from slurm_factory.package.file_names import MANIFEST_END, FileNames, file_names
from slurm_factory.package.manifest import File, Manifest, load_manifest
from slurm_factory.package.tarball import Artifact
from slurm_factory.util.documents import open_regular
from slurm_factory.util.files import file_errors, write_text
from slurm_factory.util.signals import signals_held

MANIFEST_PATTERN = f"*/slurm-*{MANIFEST_END}"
COMPLETE = ".complete"
"""Suffix of a directory with the unpublished files of a finished artifact."""


@dataclass(frozen=True)
class PublishedArtifact:
    """A result of `find_artifacts`: a manifest (host path) and its state."""

    path: Path
    manifest: Manifest | None
    """None if it cannot be used."""
    problem: str
    """Why it is not a valid artifact; empty if it is."""


def describe(path: Path) -> Artifact:
    """Size and checksum of a file (host).

    Raises:
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        return Artifact(path, size, hashlib.file_digest(file, "sha256").hexdigest())


def write_checksums(artifacts: Iterable[Artifact], destination: Path) -> Artifact:
    """Write the file (host) that `sha256sum -c` reads in the artifacts' directory.

    Raises:
        OutputError: It cannot be written.
    """
    lines = [f"{artifact.sha256}  {artifact.path.name}\n" for artifact in artifacts]
    return describe(write_text(destination, "".join(lines)))


def publish(manifest: Path, directory: Path) -> Path:
    """Move a manifest and the files it lists, which lie beside it, into `directory`.

    One rename decides: it moves the whole staging directory beside the older artifact. If the
    process is killed before, the older artifact stays; afterwards the new one is complete, and the
    next command finishes the rest (`finish_publishing`). The same holds for a power failure.
    Signals wait until the last file is in its place.

    Args:
        manifest: Manifest of the new artifact in its staging directory (host), which is removed.
        directory: Directory of finished artifacts of this version (host); made if missing. Must be
            on the file system of the staging directory.

    Returns:
        The manifest's path in `directory`.

    Raises:
        OutputError: A file is missing, or cannot be moved.
    """
    described = load_manifest(manifest)
    names = _all_of(described, manifest.parent)
    complete = directory / f".{described.identity.stem}{COMPLETE}"
    with file_errors(directory / manifest.name):
        _flush([manifest.parent / name for name in (*names, manifest.name)])
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory), signals_held():
            _require_one_file_system(manifest.parent, directory)
            _finish_all(directory)
            _flush([manifest.parent])
            manifest.parent.rename(complete)
            _flush([directory])
            _take_places(complete, manifest.name, names)
    return directory / manifest.name


def finish_publishing(directory: Path) -> None:
    """Finish publishing complete artifacts of killed builds in `directory` (host).

    Does nothing if this user has no write permission.
    """
    with suppress(OSError):
        if any(directory.glob(f".*{COMPLETE}")):
            with locked(directory), signals_held():
                _finish_all(directory)


def problem_with(manifest: Manifest, directory: Path) -> str:
    """Why the files beside a manifest do not match it; "" if they do.

    Reads every file: 20 MB take about 20 ms.
    """
    for file in manifest.files:
        problem = _problem_with_file(directory / file.name, file)
        if problem:
            return problem
    return ""


def find_artifacts(builds: Path) -> tuple[PublishedArtifact, ...]:
    """Every manifest below the directory of builds (host), by name, valid or not.

    Finishes the publishing of killed builds first.
    """
    for directory in {path.parent for path in builds.glob(f"*/.*{COMPLETE}")}:
        finish_publishing(directory)
    return tuple(_inspect(path) for path in sorted(builds.glob(MANIFEST_PATTERN)))


def _inspect(path: Path) -> PublishedArtifact:
    try:
        manifest = load_manifest(path)
    except OutputError as error:
        return PublishedArtifact(path, None, error.details)
    return PublishedArtifact(path, manifest, problem_with(manifest, path.parent))


def _problem_with_file(path: Path, expected: File) -> str:
    try:
        same = path.stat().st_size == expected.size and describe(path).sha256 == expected.sha256
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    if not same:
        return f"{path.name} does not match the manifest"
    return ""


def _finish_all(directory: Path) -> None:
    """Finish the publishing of killed builds; remove incomplete artifacts."""
    for complete in sorted(directory.glob(f".*{COMPLETE}")):
        if complete.is_symlink():
            complete.unlink()
            continue
        for path in complete.glob(f"*{MANIFEST_END}"):
            if names := _whole(path, directory):
                _take_places(complete, path.name, names)
        shutil.rmtree(complete, ignore_errors=True)


def _beside_the_files(names: FileNames) -> tuple[str, ...]:
    """Files of a package that its manifest does not list."""
    return names.verification, *names.signatures


def _all_of(manifest: Manifest, directory: Path) -> list[str]:
    """Names of the files that a manifest lists, and of those about them in `directory`."""
    listed = [file.name for file in manifest.files]
    about = _beside_the_files(manifest.identity.names)
    return [*listed, *(name for name in about if (directory / name).is_file())]


def _whole(manifest: Path, directory: Path) -> list[str]:
    """Names of an artifact's files, some of which may be published; none if one is wrong."""
    try:
        described = load_manifest(manifest)
    except OutputError:
        return []
    staged = {file.name: manifest.parent / file.name for file in described.files}
    found = {name: path if path.exists() else directory / name for name, path in staged.items()}
    if any(_problem_with_file(found[file.name], file) for file in described.files):
        return []
    return _all_of(described, manifest.parent)


def _take_places(complete: Path, manifest: str, names: Iterable[str]) -> None:
    """Move the files of a complete artifact to their place; some may be there already.

    Removes the older manifest first and moves the new one last: other programs never see a mixture
    as an artifact.
    """
    directory = complete.parent
    (directory / manifest).unlink(missing_ok=True)
    # What was seen or signed of the older one says nothing about this one. A part of this one may
    # be there already.
    for name in _beside_the_files(file_names(manifest.removesuffix(MANIFEST_END))):
        if name not in names:
            (directory / name).unlink(missing_ok=True)
    _flush([directory])
    for name in names:
        with suppress(FileNotFoundError):
            (complete / name).replace(directory / name)
    _flush([directory])
    (complete / manifest).replace(directory / manifest)
    _flush([directory])
    shutil.rmtree(complete, ignore_errors=True)


def _flush(paths: Iterable[Path]) -> None:
    """Write files and directories to the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory against other publishers, without a lock file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _require_one_file_system(staging: Path, directory: Path) -> None:
    # Checked first: a rename that fails in the middle would lose the old artifact.
    if staging.stat().st_dev != directory.stat().st_dev:
        raise OutputError(
            f"Cannot move files from {staging} to {directory}.",
            details="They are on different file systems.",
            resolution="Keep the whole cache directory on one file system: set"
            " SLURM_FACTORY_CACHE_DIR.",
        )
