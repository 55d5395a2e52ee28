"""Spack and its recipes as archives in the cache: brought once, from git or from a directory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from slurm_factory.base_record import without_credentials
from slurm_factory.checkouts.archives import pack_commit, pack_directory
from slurm_factory.checkouts.git import Git, NoSuchRefError, fetch_ref
from slurm_factory.disks import FULL_ERRORS
from slurm_factory.exceptions import ConfigurationError, DownloadError, OutputError
from slurm_factory.transfer import TransferError
from slurm_factory.unpacked import directory_of, is_repository, spack_version

if TYPE_CHECKING:
    from slurm_factory.base_record import SpackRefs

# Of spack-packages a build reads the recipes only, not what tests and publishes them.
RECIPES = ("repos/", "COPYRIGHT", "LICENSE", "NOTICE")


@dataclass(frozen=True)
class Checkout:
    """One tree of files at one state.

    Attributes:
        name: Its archive's name begins so.
        url: http(s), file, or an absolute directory (host).
        ref: Tag, branch or commit; of unpacked files it says nothing.
        setting: Start of the names of the settings that say so.
        proof: A file that only the right tree has.
        kept: What paths of files in the archive begin with; empty: all files.
    """

    name: str
    url: str
    ref: str
    setting: str
    proof: str
    kept: tuple[str, ...] = ()

    @property
    def archive_name(self) -> str:
        """Name of its archive; the same whoever fetches it."""
        identity = f"{without_credentials(self.url)}\n{self.ref}"
        return f"{self.name}-{sha256(identity.encode()).hexdigest()[:12]}.tar.gz"


def checkouts_of(refs: SpackRefs) -> tuple[Checkout, Checkout]:
    """Spack, and its recipes."""
    recipes = "repos/spack_repo/builtin/repo.yaml"
    return (
        Checkout("spack", refs.url, refs.ref, "SLURM_FACTORY_SPACK", "bin/spack"),
        Checkout(
            *("spack-packages", refs.packages_url, refs.packages_ref),
            *("SLURM_FACTORY_SPACK_PACKAGES", recipes, RECIPES),
        ),
    )


def missing_checkouts(refs: SpackRefs, directory: Path) -> list[Path]:
    """Archives (host) that are not in the cache directory (host) yet."""
    paths = [directory / checkout.archive_name for checkout in checkouts_of(refs)]
    return [path for path in paths if not path.exists()]


def fetch_checkouts(
    refs: SpackRefs, directory: Path, *, timeout: float, warn: Callable[[str], None]
) -> tuple[Path, Path]:
    """The archives of Spack and of its recipes, brought into the cache where they are not yet.

    What is in the cache stays as it is, also where a branch or a directory has moved on since;
    `slurm-factory clean --caches` lets go of it.

    Args:
        refs: What to bring.
        directory: Of the archives (host).
        timeout: Seconds without a byte after which a transfer is tried again.
        warn: Told, in one line, about a transfer that is tried again.

    Returns:
        Paths (host) of two .tar.gz without a common top directory. Each has a file
        `base_record.CHECKOUT_FILE` that tells the commit, or the checksum of a directory.

    Raises:
        DownloadError: A URL or directory does not give it.
        ConfigurationError: There is no such ref, or what is there is not Spack.
        OutputError: The cache cannot be written.
    """
    spack, packages = checkouts_of(refs)
    return (
        _fetch(spack, directory, timeout, warn),
        _fetch(packages, directory, timeout, warn),
    )


def _fetch(
    checkout: Checkout, directory: Path, timeout: float, warn: Callable[[str], None]
) -> Path:
    path = directory / checkout.archive_name
    if path.exists():
        return path
    with _cache_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=directory, prefix=".partial-") as scratch:
                    _make(checkout, Path(scratch), timeout, warn).replace(path)
    return path


def _make(checkout: Checkout, scratch: Path, timeout: float, warn: Callable[[str], None]) -> Path:
    archive = scratch / "archive"
    try:
        names = _pack(checkout, archive, scratch, timeout, warn)
    except TransferError as error:
        raise _unreachable(checkout, str(error)) from error
    except NoSuchRefError as error:
        raise _no_such_ref(checkout, error) from error
    if checkout.proof not in names:
        raise ConfigurationError(
            f"{_shown(checkout)} is not {checkout.name}.",
            details=f"There is no {checkout.proof} in it.",
            resolution=f"Correct {checkout.setting}_URL.",
        )
    return archive


def _pack(
    checkout: Checkout, archive: Path, scratch: Path, timeout: float, warn: Callable[[str], None]
) -> set[str]:
    """Write the archive; the names of the files in it."""
    directory = directory_of(checkout.url)
    if directory and not is_repository(directory):
        return _pack_unpacked(checkout, directory, archive, warn)
    git = Git(scratch / "git", str(directory or checkout.url), timeout)
    commit = fetch_ref(git, checkout.ref, _naming(checkout, warn))
    return pack_commit(git, commit, checkout.kept, archive)


def _pack_unpacked(
    checkout: Checkout, directory: Path, archive: Path, warn: Callable[[str], None]
) -> set[str]:
    # Before a whole file system is read in vain.
    if directory.is_dir() and not (directory / checkout.proof).is_file():
        return set()
    own = spack_version(directory)
    if own and f"v{own}" != checkout.ref:
        _naming(checkout, warn)(
            f"this is Spack {own}; what this program knows of is {checkout.ref}"
        )
    return pack_directory(directory, checkout.kept, archive)


def _naming(checkout: Checkout, warn: Callable[[str], None]) -> Callable[[str], None]:
    return lambda reason: warn(f"{_shown(checkout)}: {reason}.")


def _shown(checkout: Checkout) -> str:
    return without_credentials(checkout.url)


def _unreachable(checkout: Checkout, reason: str) -> DownloadError:
    return DownloadError(
        f"{checkout.name} {checkout.ref} could not be fetched from {_shown(checkout)}.",
        details=f"{reason[:1].upper()}{reason[1:]}.",
        resolution=f"Set {checkout.setting}_URL to a mirror or a directory that this machine can"
        " reach, or build with --deps system, which needs no Spack.",
    )


def _no_such_ref(checkout: Checkout, error: NoSuchRefError) -> ConfigurationError:
    near = ", ".join(error.near)
    return ConfigurationError(
        f"{_shown(checkout)} has no tag, branch or commit {checkout.ref!r}.",
        details=f"Did you mean {near}?" if near else "A commit has to be written in full.",
        resolution=f"Correct {checkout.setting}_REF.",
    )


@contextmanager
def _cache_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in FULL_ERRORS
        mend = "Free space there" if full else f"Make it writable (ls -ld '{directory}')"
        raise OutputError(
            f"{directory} is full." if full else f"{directory} cannot be written.",
            details=f"{error.strerror or error}.",
            resolution=f"{mend}, or set SLURM_FACTORY_CACHE_DIR to another directory.",
        ) from error
