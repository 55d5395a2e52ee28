"""Takes finished files to their place, and finds them there again."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slurm_factory.exceptions import OutputError
from slurm_factory.package.manifest import File, Manifest, load_manifest
from slurm_factory.package.tarball import Artifact
from slurm_factory.util.documents import open_regular
from slurm_factory.util.files import file_errors, write_text
from slurm_factory.util.signals import signals_held

MANIFEST_PATTERN = "*/slurm-*-manifest.json"
COMPLETE = ".complete"
"""End of the name of a directory that holds what of a finished artifact is not in its place."""


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

    One rename decides: it takes the whole staging directory beside the older artifact. A process
    that is killed before leaves the older artifact; from then on the new one is complete, and
    whoever looks next finishes what is left to do (`finish_publishing`). So does a power failure.
    Signals wait until the last file is in its place.

    Args:
        manifest: Of the new artifact, in its staging directory (host), which is gone afterwards.
        directory: Where finished artifacts of this version lie (host); made when missing. It must
            be on the file system of the staging directory.

    Returns:
        The manifest's path in `directory`.

    Raises:
        OutputError: A file is missing, or cannot be moved.
    """
    described = load_manifest(manifest)
    names = [file.name for file in described.files]
    complete = directory / f".{described.identity.stem}{COMPLETE}"
    with file_errors(directory / manifest.name):
        _flush([manifest.parent / name for name in (*names, manifest.name)])
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory), signals_held():
            _require_one_file_system(manifest.parent, directory)
            _finish_all(directory)
            _flush([manifest.parent])
            manifest.parent.rename(complete)
            _flush([directory])
            _take_places(complete, manifest.name, names)
    return directory / manifest.name


def finish_publishing(directory: Path) -> None:
    """Let complete artifacts take their places in `directory` (host) whose build was killed.

    Does nothing where this user may not write.
    """
    with suppress(OSError):
        if any(directory.glob(f".*{COMPLETE}")):
            with _locked(directory), signals_held():
                _finish_all(directory)


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
    """Every manifest below the directory of builds (host), by name, sound or not.

    What a killed build has left to do is done first.
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
        return f"{path.name} is not the file that the manifest describes"
    return ""


def _finish_all(directory: Path) -> None:
    """Finish what killed builds have begun; what is not whole is removed."""
    for complete in sorted(directory.glob(f".*{COMPLETE}")):
        if complete.is_symlink():
            complete.unlink()
            continue
        for path in complete.glob("*-manifest.json"):
            if names := _whole(path, directory):
                _take_places(complete, path.name, names)
        shutil.rmtree(complete, ignore_errors=True)


def _whole(manifest: Path, directory: Path) -> list[str]:
    """Names of an artifact's files, of which some may be in their places; none if one is amiss."""
    try:
        files = load_manifest(manifest).files
    except OutputError:
        return []
    staged = {file.name: manifest.parent / file.name for file in files}
    found = {name: path if path.exists() else directory / name for name, path in staged.items()}
    return [] if any(_problem_with_file(found[f.name], f) for f in files) else [*found]


def _take_places(complete: Path, manifest: str, names: Iterable[str]) -> None:
    """Move the files of a complete artifact, which may have begun before, to where it lies.

    The older manifest goes first and the new one comes last: who looks without this program never
    takes a mixture for an artifact either.
    """
    directory = complete.parent
    (directory / manifest).unlink(missing_ok=True)
    _flush([directory])
    for name in names:
        with suppress(FileNotFoundError):
            (complete / name).replace(directory / name)
    _flush([directory])
    (complete / manifest).replace(directory / manifest)
    _flush([directory])
    shutil.rmtree(complete, ignore_errors=True)


def _flush(paths: Iterable[Path]) -> None:
    """Have files and directories on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory against other publishers; leaves no lock file behind."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
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
