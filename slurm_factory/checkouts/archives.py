"""Trees of files as .tar.gz, each with a line that says which tree it is."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slurm_factory.base_record import CHECKOUT_FILE
from slurm_factory.transfer import TransferError

if TYPE_CHECKING:
    from slurm_factory.checkouts.git import Git

COMPRESSION: Final = 6
LEFT_OUT: Final = frozenset({".git", "__pycache__"})
"""Directories of a plain tree that are no part of it."""


@dataclass(frozen=True)
class _File:
    """A file, or a symbolic link whose content is its target.

    Attributes:
        path: Below the top directory.
        mode: As stat(2) and git have it.
        content: Of the file.
        mtime: Seconds since 1970.
    """

    path: str
    mode: int
    content: bytes
    mtime: float


def pack_commit(git: Git, commit: str, kept: tuple[str, ...], archive: Path) -> set[str]:
    """Write the files of a commit, without submodules.

    Args:
        git: Has fetched the commit.
        commit: Its id, in full.
        kept: Beginnings of the paths that go into the archive; empty: all.
        archive: The .tar.gz to write (host).

    Returns:
        The paths of the files in it.

    Raises:
        TransferError: The repository lacks a part of the commit.
    """
    try:
        with git.archive(commit) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            return _write(archive, _files_in(tar, kept), f"git:{commit}")
    except tarfile.TarError as error:
        raise TransferError("the repository lacks files of that commit") from error


def pack_directory(directory: Path, kept: tuple[str, ...], archive: Path) -> set[str]:
    """Write the files of a directory (host), as `pack_commit` does those of a commit.

    Raises:
        TransferError: The directory cannot be read.
    """
    try:
        files = list(_files_below(directory, kept))
    except OSError as error:
        raise TransferError(f"{error.filename}: {error.strerror}") from error
    return _write(archive, files, f"sha256:{_digest(files)}")


def _files_in(tar: tarfile.TarFile, kept: tuple[str, ...]) -> Iterator[_File]:
    for member in tar:
        if member.isdir() or not _is_kept(member.name, kept):
            continue
        if member.issym():
            mode, content = stat.S_IFLNK, os.fsencode(member.linkname)
        else:
            file = tar.extractfile(member)
            mode, content = stat.S_IFREG | member.mode, file.read() if file else b""
        yield _File(member.name, mode, content, member.mtime)


def _files_below(directory: Path, kept: tuple[str, ...]) -> Iterator[_File]:
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
            if _is_kept(path, kept):
                yield _File(path, status.st_mode, content, status.st_mtime)


def _is_kept(path: str, kept: tuple[str, ...]) -> bool:
    # One that an earlier packing left in a tree that was unpacked from it is of that tree.
    return path != CHECKOUT_FILE and (not kept or path.startswith(kept))


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
    """The archive, in which everybody may read everything and nothing is set-uid."""
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
