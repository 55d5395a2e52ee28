"""Reproducible tarballs: one tree gives the same bytes on every machine."""

import hashlib
import os
import stat
import struct
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Final

from zlib_ng import zlib_ng

from slurm_factory.exceptions import OutputError
from slurm_factory.util.files import atomic_write, file_errors

BLOCK_SIZE: Final = 1 << 20
WINDOW_SIZE: Final = 1 << 15
"""Window size of deflate (RFC 1951, section 2)."""
LEVEL: Final = 9
"""With zlib-ng, the smallest output takes as long as zlib's level 6."""
GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
"""No name, no time, no operating system (RFC 1952, section 2.3)."""


@dataclass(frozen=True)
class Artifact:
    """A finished file (host path) with its size in bytes and its SHA-256 in hex."""

    path: Path
    size: int
    sha256: str


def pack(
    source: Path, destination: Path, *, top: str, mtime: int, threads: int | None = None
) -> Artifact:
    """Pack a directory into a `.tar.gz` whose bytes depend only on the tree, `top` and `mtime`.

    Entries are sorted and belong to root, modes are 0755 or 0644 by the owner's execute bit, hard
    links within the tree stay hard links. The file gets its name only when it is complete and on
    disk.

    Args:
        source: Directory to pack (host).
        destination: File to write or replace (host).
        top: Name of the single top directory, or "" for the entries of `source` themselves.
        mtime: Time of every entry, in seconds since the epoch.
        threads: Number of compressing threads; None: the number of CPUs of this process.

    Raises:
        OutputError: The tree cannot be read or holds a device, socket or pipe, or the tarball
            cannot be written. Nothing is left behind.
    """
    digest, size = hashlib.sha256(), 0
    with (
        file_errors(destination),
        atomic_write(destination) as file,
        tempfile.TemporaryFile(dir=destination.parent) as plain,
    ):
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, member in _members(source, top, mtime):
                _add(archive, path, member)
        plain.flush()
        for part in _compressed(plain.fileno(), threads or len(os.sched_getaffinity(0))):
            file.write(part)
            digest.update(part)
            size += len(part)
    return Artifact(destination, size, digest.hexdigest())


def _add(archive: tarfile.TarFile, path: Path, member: tarfile.TarInfo) -> None:
    if member.isreg():
        with path.open("rb") as content:
            archive.addfile(member, content)
    else:
        archive.addfile(member)


def _members(source: Path, top: str, mtime: int) -> Iterator[tuple[Path, tarfile.TarInfo]]:
    first_names: dict[tuple[int, int], str] = {}
    if top:
        yield source, _member(source, top, mtime, first_names)
    for path in _walk(source):
        name = "/".join(filter(None, (top, str(path.relative_to(source)))))
        yield path, _member(path, name, mtime, first_names)


def _walk(directory: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(directory), key=lambda entry: os.fsencode(entry.name)):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


def _member(
    path: Path, name: str, mtime: int, first_names: dict[tuple[int, int], str]
) -> tarfile.TarInfo:
    status = path.lstat()
    member = tarfile.TarInfo(name)
    member.uname = member.gname = "root"
    member.mtime = mtime
    member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    if stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        member.mode = 0o755
    elif stat.S_ISLNK(status.st_mode):
        member.type = tarfile.SYMTYPE
        member.mode = 0o777
        member.linkname = str(path.readlink())
    elif stat.S_ISREG(status.st_mode):
        first = first_names.setdefault((status.st_dev, status.st_ino), name)
        if first == name:
            member.size = status.st_size
        else:
            member.type = tarfile.LNKTYPE
            member.linkname = first
    else:
        raise OutputError(
            f"{path} cannot be packed.",
            details="It is neither a file, a directory nor a link.",
            resolution="The tree of a build may contain only files, directories and links.",
        )
    return member


def _compressed(plain: int, threads: int) -> Iterator[bytes]:
    """A file as the parts of a gzip stream, compressed in blocks, in the manner of pigz.

    Each block has a compressor of its own, primed with the end of the block before, so that the
    output does not depend on the number of threads. (`zlib_ng.gzip_ng_threaded` reuses its
    compressors, and its output does.)

    Args:
        plain: Descriptor of the file (host).
        threads: Threads that compress.
    """
    size, crc = os.fstat(plain).st_size, 0
    starts = range(0, size, BLOCK_SIZE)
    yield GZIP_HEADER
    pool = ThreadPoolExecutor(threads)
    try:
        blocks = pool.map(_compress, repeat(plain), starts)
        for start, block in zip(starts, blocks, strict=True):
            crc = zlib_ng.crc32(os.pread(plain, BLOCK_SIZE, start), crc)
            yield block
    finally:
        pool.shutdown(cancel_futures=True)
    yield zlib_ng.compressobj(LEVEL, wbits=-15).flush()
    yield struct.pack("<II", crc, size & 0xFFFFFFFF)


def _compress(plain: int, start: int) -> bytes:
    window = min(start, WINDOW_SIZE)
    settings = (LEVEL, zlib_ng.DEFLATED, -zlib_ng.MAX_WBITS, zlib_ng.DEF_MEM_LEVEL)
    strategy = zlib_ng.Z_DEFAULT_STRATEGY
    before = os.pread(plain, window, start - window)
    compressor = zlib_ng.compressobj(*settings, strategy, before)
    block = os.pread(plain, BLOCK_SIZE, start)
    return compressor.compress(block) + compressor.flush(zlib_ng.Z_SYNC_FLUSH)
