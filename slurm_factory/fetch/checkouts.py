"""Archives of Spack and its package recipes in the cache, fetched once from git or a directory."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock

from slurm_factory.exceptions import ConfigurationError, DownloadError
from slurm_factory.fetch.git import Git, NoSuchRefError, fetch_ref
from slurm_factory.fetch.http import TransferError
from slurm_factory.plan.base_setup import (
    CHECKOUT_FILE,
    directory_of,
    is_repository,
    spack_version,
    without_credentials,
)
from slurm_factory.util.files import file_errors

if TYPE_CHECKING:
    from slurm_factory.plan.base_setup import SpackRefs

# A build reads only the package recipes of spack-packages, not its tests and tools.
RECIPES = ("repos/", "COPYRIGHT", "LICENSE", "NOTICE")


@dataclass(frozen=True)
class Checkout:
    """One tree of files at one state.

    Attributes:
        name: Prefix of the archive's name.
        url: http(s), file, or an absolute directory (host).
        ref: Tag, branch or commit; has no meaning for unpacked files.
        setting: Prefix of the names of its settings.
        marker_file: A file that identifies the tree.
        only: Prefixes of the paths to put into the archive; empty: all files.
    """

    name: str
    url: str
    ref: str
    setting: str
    marker_file: str
    only: tuple[str, ...] = ()

    @property
    def archive_name(self) -> str:
        """Name of its archive; independent of credentials."""
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
    """Missing archives in the cache directory (host)."""
    paths = [directory / checkout.archive_name for checkout in checkouts_of(refs)]
    return [path for path in paths if not path.exists()]


def fetch_checkouts(
    refs: SpackRefs, directory: Path, *, timeout: float, warn: Callable[[str], None]
) -> tuple[Path, Path]:
    """Fetch the archives of Spack and its package recipes into the cache, if they are not there.

    Archives in the cache stay as they are, even if the branch or directory has changed;
    `slurm-factory clean --caches` removes them.

    Args:
        refs: What to fetch.
        directory: Directory of the archives (host).
        timeout: Seconds without a byte after which a transfer is tried again.
        warn: Called with one line for each transfer that is tried again.

    Returns:
        Paths (host) of two .tar.gz without a common top directory. Each has a file
        `base_setup.CHECKOUT_FILE` with the commit, or the checksum of a directory.

    Raises:
        DownloadError: It cannot be fetched from the URL or directory.
        ConfigurationError: There is no such ref, or the content is not Spack.
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
    with file_errors(directory):
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
    if checkout.marker_file not in names:
        raise ConfigurationError(
            f"{_shown(checkout)} is not {checkout.name}.",
            details=f"There is no {checkout.marker_file} in it.",
            resolution=f"Correct {checkout.setting}_URL.",
        )
    return archive


def _pack(
    checkout: Checkout, archive: Path, scratch: Path, timeout: float, warn: Callable[[str], None]
) -> set[str]:
    """Write the archive; returns the names of the files in it."""
    directory = directory_of(checkout.url)
    if directory and not is_repository(directory):
        return _pack_unpacked(checkout, directory, archive, warn)
    git = Git(scratch / "git", str(directory or checkout.url), timeout)
    commit = fetch_ref(git, checkout.ref, _naming(checkout, warn))
    return pack_commit(git, commit, checkout.only, archive)


def _pack_unpacked(
    checkout: Checkout, directory: Path, archive: Path, warn: Callable[[str], None]
) -> set[str]:
    # Checked first, to avoid reading a whole file system in vain.
    if directory.is_dir() and not (directory / checkout.marker_file).is_file():
        return set()
    own = spack_version(directory)
    if own and f"v{own}" != checkout.ref:
        _naming(checkout, warn)(f"this is Spack {own}; slurm-factory supports {checkout.ref}")
    return pack_directory(directory, checkout.only, archive)


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
        details=f"Did you mean {near}?" if near else "Write a commit in full.",
        resolution=f"Correct {checkout.setting}_REF.",
    )


COMPRESSION: Final = 6
LEFT_OUT: Final = frozenset({".git", "__pycache__"})
"""Directories in a plain tree that do not belong to it."""


@dataclass(frozen=True)
class _File:
    """A file, or a symbolic link whose content is its target.

    Attributes:
        path: Below the top directory.
        mode: As in stat(2) and git.
        content: Content of the file.
        mtime: Seconds since 1970.
    """

    path: str
    mode: int
    content: bytes
    mtime: float


def pack_commit(git: Git, commit: str, only: tuple[str, ...], archive: Path) -> set[str]:
    """Write the files of a commit, without submodules.

    Args:
        git: Has fetched the commit.
        commit: Its id, in full.
        only: Prefixes of the paths to put into the archive; empty: all.
        archive: The .tar.gz to write (host).

    Returns:
        The paths of the files in it.

    Raises:
        TransferError: The repository lacks a part of the commit.
    """
    try:
        with git.archive(commit) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            return _write(archive, _files_in(tar, only), f"git:{commit}")
    except tarfile.TarError as error:
        raise TransferError("the repository lacks files of that commit") from error


def pack_directory(directory: Path, only: tuple[str, ...], archive: Path) -> set[str]:
    """Write the files of a directory (host), as `pack_commit` does those of a commit.

    Raises:
        TransferError: The directory cannot be read.
    """
    try:
        files = list(_files_below(directory, only))
    except OSError as error:
        raise TransferError(f"{error.filename}: {error.strerror}") from error
    return _write(archive, files, f"sha256:{_digest(files)}")


def _files_in(tar: tarfile.TarFile, only: tuple[str, ...]) -> Iterator[_File]:
    for member in tar:
        if member.isdir() or not _is_wanted(member.name, only):
            continue
        if member.issym():
            mode, content = stat.S_IFLNK, os.fsencode(member.linkname)
        else:
            file = tar.extractfile(member)
            mode, content = stat.S_IFREG | member.mode, file.read() if file else b""
        yield _File(member.name, mode, content, member.mtime)


def _files_below(directory: Path, only: tuple[str, ...]) -> Iterator[_File]:
    def refuse(error: OSError) -> None:
        raise error

    for top, directories, names in os.walk(directory, onerror=refuse):
        links = [name for name in directories if Path(top, name).is_symlink()]
        directories[:] = sorted({*directories} - LEFT_OUT)
        for file in (Path(top, name) for name in sorted([*names, *links])):
            path, status = file.relative_to(directory).as_posix(), file.lstat()
            if stat.S_ISLNK(status.st_mode):
                content = os.fsencode(file.readlink())
            elif stat.S_ISREG(status.st_mode):
                content = file.read_bytes()
            else:
                continue
            if _is_wanted(path, only):
                yield _File(path, status.st_mode, content, status.st_mtime)


def _is_wanted(path: str, only: tuple[str, ...]) -> bool:
    # The tree may have been unpacked from such an archive and contain its file.
    return path != CHECKOUT_FILE and (not only or path.startswith(only))


def _digest(files: Iterable[_File]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        content = hashlib.sha256(file.content).hexdigest()
        digest.update(f"{_kind(file)} {content} {file.path}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _kind(file: _File) -> str:
    if stat.S_ISLNK(file.mode):
        return "link"
    return "program" if file.mode & stat.S_IXUSR else "file"


def _write(archive: Path, files: Iterable[_File], identity: str) -> set[str]:
    """The archive: all files are readable for everyone, none is set-uid."""
    line = f"{identity}\n".encode()
    names = set()
    with tarfile.open(archive, "w:gz", compresslevel=COMPRESSION) as tar:
        for file in (_File(CHECKOUT_FILE, stat.S_IFREG, line, 0), *files):
            tar.addfile(*_member(file))
            names.add(file.path)
    return names


def _member(file: _File) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    member = tarfile.TarInfo(file.path)
    member.mtime = file.mtime
    if stat.S_ISLNK(file.mode):
        member.type = tarfile.SYMTYPE
        member.linkname = os.fsdecode(file.content)
        return member, None
    member.mode = 0o755 if file.mode & stat.S_IXUSR else 0o644
    member.size = len(file.content)
    return member, io.BytesIO(file.content)
