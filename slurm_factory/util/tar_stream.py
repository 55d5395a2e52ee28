"""Directories as a tar stream from a program that nobody trusts, checked member by member."""

from __future__ import annotations

import gzip
import hashlib
import os
import posixpath
import re
import stat
import tarfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, cast

from slurm_factory.exceptions import VerificationError
from slurm_factory.util.documents import open_regular
from slurm_factory.util.files import file_errors, lies_inside
from slurm_factory.util.hints import printable

LARGEST: Final = 8 << 30
"""Limit in bytes for all files of a stream: no tree of a build is nearly as large."""
MOST_MEMBERS: Final = 1_000_000
END_BYTES: Final = 1 << 20
"""More than tar's padding of its last record (tar(1), --blocking-factor)."""
LARGEST_FILE: Final = 1 << 30
"""Limit in bytes for one file: debug information of slurmctld takes some 10 MB."""
DEEPEST: Final = 64
"""Limit for the depth of directories: what walks a tree calls itself for each."""
LARGEST_HEADER: Final = 1 << 16
"""Limit in bytes for an extended header; paths have at most 4,096."""
MOST_HEADERS: Final = 4
"""Limit for extended headers before one member, which needs two at most."""
LONG_NAMES: Final = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
EXTENDED: Final = (tarfile.XHDTYPE, tarfile.XGLTYPE, *LONG_NAMES)
PAX_RECORD: Final = re.compile(rb"([1-9][0-9]{0,4}) ([^=\n]{1,100})=")
LINKS: Final = (tarfile.SYMTYPE, tarfile.LNKTYPE)
CHUNK: Final = 1 << 20
MOST_LISTED: Final = 100_000
LONGEST_PATH: Final = 4096
"""Limits for what is only listed: names stay in memory, and no file system limits them."""
LARGEST_READ: Final = 1 << 20
"""Limit in bytes for a file that is read from an archive."""
TAR: Final = (
    *("tar", "--create", "--format=ustar", "--sort=name"),
    *("--owner=0", "--group=0", "--numeric-owner"),
)
"""The command whose output `unpack` reads, without `--directory=DIRECTORY .`.

In this format (POSIX.1-1988), each member is one header of fixed size: no header can exhaust
memory or change the meaning of a later one.
"""


def unpack(
    stream: BinaryIO,
    target: Path,
    *,
    links: bool = False,
    largest: int = LARGEST,
    members: int = MOST_MEMBERS,
) -> None:
    """Unpack the output of `TAR` into a new directory, or refuse it.

    Modes become 0755, or 0644 for files that nobody may execute; owners and times are not kept.
    Hard links stay hard links. What came before a refused member stays in the directory.

    Args:
        stream: What tar prints; read to its end.
        target: Directory to make (host), in a directory that nobody else can write to.
        links: Allow links, which must lead to something in the directory.
        largest: Limit for all files together in bytes.
        members: Limit for their number.

    Raises:
        VerificationError: A member has a name or a link outside the directory, comes twice, is
            neither file, directory nor allowed link, or is a setuid or setgid file; or the stream
            is too large, cut short, or no such stream.
        OutputError: It cannot be written.
    """
    content = ((member, stream) for member in _members(stream, extended=False))
    _unpack(content, target, links=links, largest=largest, members=members)


def unpack_tarball(tarball: Path, target: Path) -> None:
    """Unpack a `.tar.gz` by the rules of `unpack`; links are allowed.

    Long names may be in extended headers (pax(1) and tar(5)).

    Args:
        tarball: The archive (host), which anybody may have made.
        target: Directory to make (host), in a directory that nobody else can write to.

    Raises:
        VerificationError: A member is refused, or it is no such archive.
        OutputError: It cannot be read or written.
    """
    with file_errors(tarball, "read"), open_regular(tarball) as file:
        stream = cast("BinaryIO", _Gunzip(fileobj=file))
        content = ((member, stream) for member in _members(stream, extended=True))
        _unpack(content, target, links=True, largest=LARGEST, members=MOST_MEMBERS)


def list_tarball(
    tarball: Path, wanted: Collection[str] = ()
) -> tuple[dict[str, int], dict[str, bytes]]:
    """The files of a `.tar.gz` by the rules of `unpack_tarball`, without writing anything.

    Args:
        tarball: The archive (host), which anybody may have made.
        wanted: Files (paths in it) to read, as far as they are small.

    Returns:
        Size in bytes of each file and of each link by its path, where links have none; and the
        content of the wanted files.

    Raises:
        VerificationError: A member is refused, or it is no such archive.
        OutputError: It cannot be read.
    """
    sizes: dict[str, int] = {}
    contents: dict[str, bytes] = {}
    with file_errors(tarball, "read"), open_regular(tarball) as file:
        stream = cast("BinaryIO", _Gunzip(fileobj=file))
        content = ((member, stream) for member in _members(stream, extended=True))
        for member, path, _ in _checked(content, links=True, largest=LARGEST, members=MOST_LISTED):
            name = str(path)
            if len(member.name) > LONGEST_PATH:
                raise refused(f"{printable(member.name)} is no name.")
            if not member.isdir():
                sizes[name] = member.size
            keep = name in wanted and member.size <= LARGEST_READ
            parts = [part for part in _parts(stream, member) if keep]
            if keep and member.isreg():
                contents[name] = b"".join(parts)
    return sizes, contents


@dataclass(frozen=True)
class Entry:
    """A member of an archive, as its header has it.

    Attributes:
        kind: Type of the member (tarfile's constants).
        mode: Permissions.
        owner: User and group: name and number of each.
        time: In seconds since the epoch.
        size: In bytes.
        link: Where a link leads.
        sha256: Checksum of the content of a file.
        content: That content, if it was wanted.
    """

    kind: bytes
    mode: int
    owner: tuple[str, int, str, int]
    time: int
    size: int
    link: str
    sha256: str
    content: bytes | None = None


def read_entries(tarball: Path, wanted: Collection[str] = ()) -> dict[str, Entry]:
    """All that a `.tar.gz` contains by the rules of `unpack_tarball`, in its order.

    Args:
        tarball: The archive (host), which anybody may have made.
        wanted: Files (paths in it) whose content to keep.

    Raises:
        VerificationError: A member is refused, or it is no such archive.
        OutputError: It cannot be read.
    """
    entries: dict[str, Entry] = {}
    with file_errors(tarball, "read"), open_regular(tarball) as file:
        stream = cast("BinaryIO", _Gunzip(fileobj=file))
        content = ((member, stream) for member in _members(stream, extended=True))
        for member, path, _ in _checked(content, links=True, largest=LARGEST, members=MOST_LISTED):
            if len(member.name) > LONGEST_PATH:
                raise refused(f"{printable(member.name)} is no name.")
            kept, digest = [], hashlib.sha256()
            for part in _parts(stream, member):
                digest.update(part)
                kept += [part] if str(path) in wanted else []
            entries[str(path)] = Entry(
                kind=member.type,
                mode=member.mode,
                owner=(member.uname, member.uid, member.gname, member.gid),
                time=int(member.mtime),
                size=member.size,
                link=member.linkname,
                sha256=digest.hexdigest(),
                content=b"".join(kept) if str(path) in wanted else None,
            )
    return entries


def content_digest(tarball: Path) -> str:
    """Checksum of what a `.tar.gz` is, uncompressed; raises as `read_entries` does."""
    digest, left = hashlib.sha256(), LARGEST
    with file_errors(tarball, "read"), open_regular(tarball) as file:
        stream = _Gunzip(fileobj=file)
        while part := stream.read(CHUNK):
            digest.update(part)
            left -= len(part)
            if left < 0:
                raise refused("It has an impossible size.")
    return digest.hexdigest()


class _Gunzip(gzip.GzipFile):
    """Refuses what is damaged."""

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise refused(f"It is not compressed by gzip, or damaged: {error}.") from error


def _unpack(
    content: Iterator[tuple[tarfile.TarInfo, IO[bytes]]],
    target: Path,
    *,
    links: bool,
    largest: int,
    members: int,
) -> None:
    with file_errors(target):
        target.mkdir()
        target.chmod(0o755)
        made: dict[PurePosixPath, bytes] = {}
        for member, path, stream in _checked(
            content, links=links, largest=largest, members=members
        ):
            if path != PurePosixPath():
                _make(member, target / path, target, stream)
            made[path] = member.type
        _require_links_inside(target, made)


def _checked(
    content: Iterator[tuple[tarfile.TarInfo, IO[bytes]]],
    *,
    links: bool,
    largest: int,
    members: int,
) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath, IO[bytes]]]:
    """Each member with its path, which is safe; the arguments are those of `unpack`."""
    kinds: dict[PurePosixPath, bytes] = {PurePosixPath(): tarfile.DIRTYPE}
    for number, (member, stream) in enumerate(content):
        path = _checked_path(member, kinds)
        if not links and member.type in LINKS:
            raise refused(f"{printable(member.name)} is a link.")
        if number >= members:
            raise refused(f"It has more than {members:,} files.")
        largest -= member.size
        if largest < 0 or not 0 <= member.size <= LARGEST_FILE:
            raise refused(f"With {printable(member.name)}, its files have an impossible size.")
        yield member, path, stream
        kinds[path] = member.type


class StreamEndedError(VerificationError):
    """A stream is cut short, which may also be a failure of its program."""


def refused(details: str) -> VerificationError:
    """The error for something that an instance delivered and no honest build makes."""
    return VerificationError(
        "The result of the build is refused.",
        details=details,
        resolution="An honest build makes no such thing. Find out what the sources do (the build"
        " log shows their output) before you build them again.",
    )


def _cut_short(place: str) -> StreamEndedError:
    error = refused(f"Its tar stream is cut short {place}.")
    return StreamEndedError(error.brief, details=error.details, resolution=error.resolution)


def _members(stream: BinaryIO, *, extended: bool) -> Iterator[tarfile.TarInfo]:
    """Each member; the caller reads its content before it asks for the next one.

    Args:
        stream: The archive.
        extended: Whether extended headers may give the next member its names.
    """
    names: dict[str, str] = {}
    headers = 0
    while True:
        header = stream.read(tarfile.BLOCKSIZE)
        if len(header) < tarfile.BLOCKSIZE:
            raise _cut_short("at the header of a member")
        if header == bytes(tarfile.BLOCKSIZE):
            break
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise refused(f"Its tar stream is damaged: {error}.") from error
        if extended and member.type in EXTENDED:
            headers += 1
            if headers > MOST_HEADERS:
                raise refused(f"{printable(member.name)} is one of too many extended headers.")
            names |= _names_in(member, stream)
            continue
        member.name = names.get("path", member.name)
        member.linkname = names.get("linkpath", member.linkname)
        names, headers = {}, 0
        yield member
        if member.isreg():
            stream.read(-member.size % tarfile.BLOCKSIZE)
    for _ in range(END_BYTES // CHUNK + 1):
        if not stream.read(CHUNK):
            return
    raise refused("Its tar stream does not end.")


def _names_in(header: tarfile.TarInfo, stream: BinaryIO) -> dict[str, str]:
    """What an extended header says about the names of the next member."""
    name = printable(header.name)
    if not 0 <= header.size <= LARGEST_HEADER:
        raise refused(f"The extended header {name} has an impossible size.")
    content = stream.read(header.size)
    stream.read(-header.size % tarfile.BLOCKSIZE)
    if header.type in LONG_NAMES:
        return {LONG_NAMES[header.type]: content.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found: dict[str, str] = {}
    at = 0
    while at < len(content):
        record = PAX_RECORD.match(content, at)
        if record is None or not record.end() <= at + int(record[1]) <= len(content):
            raise refused(f"The extended header {name} is damaged.")
        key = record[2].decode("utf-8", "replace")
        if key == "size" or key.startswith("GNU.sparse."):
            raise refused(f"The extended header {name} changes the size of a file.")
        value = content[record.end() : at + int(record[1]) - 1]
        found[key] = value.decode("utf-8", "surrogateescape")
        at += int(record[1])
    # A header for all members has only comments, as of git archive.
    return found if header.type == tarfile.XHDTYPE else {}


def _checked_path(member: tarfile.TarInfo, kinds: dict[PurePosixPath, bytes]) -> PurePosixPath:
    """Path of a member below the target, which is safe to make."""
    path, name = PurePosixPath(member.name), printable(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise refused(f"{name} is outside the directory.")
    if len(path.parts) > DEEPEST or "\0" in member.name:
        raise refused(f"{name} is too deep in the directory, or no name.")
    if kinds.get(path.parent) != tarfile.DIRTYPE:
        raise refused(f"{name} is below something that is not a directory.")
    is_top = path == PurePosixPath()
    if path in kinds and not (is_top and len(kinds) == 1 and member.isdir()):
        raise refused(f"{name} comes twice.")
    # Spack gives new directories their parent's group with this bit.
    if not member.isdir() and member.mode & (stat.S_ISUID | stat.S_ISGID):
        raise refused(f"{name} is setuid or setgid.")
    problem = _problem_with_kind(member, path, kinds)
    if problem:
        raise refused(f"{name} {problem}.")
    return path


def _problem_with_kind(
    member: tarfile.TarInfo, path: PurePosixPath, kinds: dict[PurePosixPath, bytes]
) -> str:
    if member.type not in (*LINKS, tarfile.REGTYPE, tarfile.DIRTYPE):
        return "is neither a file, a directory nor a link"
    if member.type != tarfile.REGTYPE and member.size:
        return "has content, and is no file"
    link = printable(member.linkname)
    if member.type == tarfile.SYMTYPE:
        leads_to = posixpath.normpath(posixpath.join(path.parent, member.linkname))
        if leads_to.split("/")[0] in {"..", ""}:
            return f"is a link to {link}, outside the directory"
    if member.type == tarfile.LNKTYPE:
        other = kinds.get(PurePosixPath(member.linkname))
        if other != tarfile.REGTYPE:
            return f"is a hard link to {link}, which is no file before it"
    return ""


def _make(member: tarfile.TarInfo, path: Path, target: Path, stream: IO[bytes]) -> None:
    """Every directory above `path` was made by this program as a directory."""
    if member.isdir():
        path.mkdir()
        path.chmod(0o755)
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(target / PurePosixPath(member.linkname), path, follow_symlinks=False)
    else:
        _write(member, path, stream)


def _write(member: tarfile.TarInfo, path: Path, stream: IO[bytes]) -> None:
    with path.open("xb") as file:
        for part in _parts(stream, member):
            file.write(part)
        os.fchmod(file.fileno(), 0o755 if member.mode & 0o111 else 0o644)


def _parts(stream: IO[bytes], member: tarfile.TarInfo) -> Iterator[bytes]:
    """The content of a file, to its end."""
    left = member.size
    while left:
        part = stream.read(min(left, CHUNK))
        if not part:
            raise _cut_short(f"in {printable(member.name)}")
        yield part
        left -= len(part)


def _require_links_inside(target: Path, kinds: dict[PurePosixPath, bytes]) -> None:
    """A link to a link may leave the directory although each of them stays in it."""
    for path, kind in kinds.items():
        if kind == tarfile.SYMTYPE and not lies_inside(target, target / path):
            raise refused(f"{printable(str(path))} is a link that leads outside the directory.")
