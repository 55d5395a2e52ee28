"""Reproducible tarballs: one tree gives the same bytes on every machine."""

import hashlib
import io
import os
import stat
import struct
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from zlib_ng import zlib_ng

from slurm_factory.exceptions import OutputError
from slurm_factory.util.files import appearing, file_errors

BLOCK_SIZE: Final = 1 << 20
WINDOW_SIZE: Final = 1 << 15
"""How far back deflate looks (RFC 1951, section 2)."""
LEVEL: Final = 9
"""With zlib-ng the smallest output takes as long as zlib's level 6 does."""
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
    """Pack a directory into a `.tar.gz` whose bytes depend on the tree, `top` and `mtime` alone.

    Entries are sorted and belong to root, modes are 0755 or 0644 by the owner's execute bit, hard
    links within the tree stay hard links. The file appears under its name only when it is whole
    and on disk.

    Args:
        source: Directory to pack (host).
        destination: File to write or replace (host).
        top: Name of the single top directory, or "" for the entries of `source` themselves.
        mtime: Time of every entry, in seconds since the epoch.
        threads: Threads that compress; None: as many as this process may use CPUs.

    Raises:
        OutputError: The tree cannot be read or holds a device, socket or pipe, or the tarball
            cannot be written. Nothing is left behind.
    """
    digest = hashlib.sha256()
    with file_errors(destination), appearing(destination) as file:
        output = _Hashed(file, digest)
        gzip = _ParallelGzip(output, threads or len(os.sched_getaffinity(0)))
        with gzip, tarfile.open(fileobj=gzip, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path, member in _members(source, top, mtime):
                _add(archive, path, member)
    return Artifact(destination, output.size, digest.hexdigest())


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
            resolution="Keep what the build leaves in its tree to files, directories and links.",
        )
    return member


class _Hashed:
    """Passes bytes on to a file, counts them and feeds them to a digest."""

    def __init__(self, file: IO[bytes], digest: "hashlib._Hash") -> None:
        self._file = file
        self._digest = digest
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)


class _ParallelGzip(io.RawIOBase):
    """A gzip stream of independently compressed blocks, in the manner of pigz.

    Each block is compressed by a compressor of its own, primed with the end of the block before,
    so that the output does not depend on the number of threads. (`zlib_ng.gzip_ng_threaded`
    reuses its compressors, and its output does.)
    """

    def __init__(self, output: _Hashed, threads: int) -> None:
        self._output = output
        self._pool = ThreadPoolExecutor(threads)
        self._waiting: deque[Future[bytes]] = deque()
        self._most_waiting = 2 * threads
        self._pending = bytearray()
        self._previous = b""
        self._crc = 0
        self._size = 0
        output.write(GZIP_HEADER)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pending += data
        while len(self._pending) >= BLOCK_SIZE:
            self._submit(bytes(self._pending[:BLOCK_SIZE]))
            del self._pending[:BLOCK_SIZE]
        return len(data)

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _submit(self, block: bytes) -> None:
        self._crc = zlib_ng.crc32(block, self._crc)
        self._size += len(block)
        self._waiting.append(self._pool.submit(_compress, block, self._previous[-WINDOW_SIZE:]))
        self._previous = block
        if len(self._waiting) > self._most_waiting:
            self._output.write(self._waiting.popleft().result())

    def _finish(self) -> None:
        if self._pending:
            self._submit(bytes(self._pending))
        for compressed in self._waiting:
            self._output.write(compressed.result())
        self._output.write(zlib_ng.compressobj(LEVEL, wbits=-15).flush())
        self._output.write(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))


def _compress(block: bytes, dictionary: bytes) -> bytes:
    settings = (LEVEL, zlib_ng.DEFLATED, -zlib_ng.MAX_WBITS, zlib_ng.DEF_MEM_LEVEL)
    strategy = zlib_ng.Z_DEFAULT_STRATEGY
    compressor = (
        zlib_ng.compressobj(*settings, strategy, dictionary)
        if dictionary
        else zlib_ng.compressobj(*settings, strategy)
    )
    return compressor.compress(block) + compressor.flush(zlib_ng.Z_SYNC_FLUSH)
