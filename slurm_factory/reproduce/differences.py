"""What differs between two tarballs, member by member. Either may be made by anybody."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from slurm_factory.reproduce.contents import why_different
from slurm_factory.util.hints import printable
from slurm_factory.util.tar_stream import Entry, content_digest, read_entries

MOST_LOOKED_INTO = 256 << 20
"""Limit in bytes for the files of both sides whose contents are compared in memory."""
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard link",
}


class What(StrEnum):
    """What differs."""

    ONLY_IN_PACKAGE = "only in the package"
    ONLY_BUILT = "only in what was built"
    KIND = "kind"
    CONTENT = "content"
    LINK = "link"
    MODE = "mode"
    OWNER = "owner"
    TIME = "time"
    ARCHIVE = "archive"


@dataclass(frozen=True)
class Difference:
    """A difference between a package and what was built again.

    Attributes:
        path: Path in the tarball, for display; empty for the archive itself.
        what: What differs.
        detail: In words; `→` leads from the package to what was built.
    """

    path: str
    what: What
    detail: str


@dataclass(frozen=True)
class Compared:
    """Two tarballs with other bytes.

    Attributes:
        members: Number of members that both have.
        differences: In the order of the package.
    """

    members: int
    differences: tuple[Difference, ...]


def compare_tarballs(package: Path, built: Path) -> Compared:
    """Compare two tarballs with other checksums.

    Args:
        package: Tarball of the package (host).
        built: The one that was built again (host).

    Raises:
        VerificationError: A tarball is refused (`tar_stream.read_entries`).
        OutputError: One cannot be read.
    """
    ours, theirs = read_entries(package), read_entries(built)
    wanted = _worth_reading(ours, theirs)
    if wanted:
        ours = read_entries(package, wanted)
        theirs = read_entries(built, wanted)
    found = [*_differences(ours, theirs)]
    if not found:
        found = [Difference("", What.ARCHIVE, _archive(package, built, ours, theirs))]
    return Compared(len(ours.keys() & theirs.keys()), tuple(found))


def _worth_reading(ours: dict[str, Entry], theirs: dict[str, Entry]) -> set[str]:
    """Files with other contents, as far as there is room for them."""
    wanted, left = set[str](), MOST_LOOKED_INTO
    for name, entry in ours.items():
        other = theirs.get(name)
        if other is None or other.sha256 == entry.sha256 or not _are_files(entry, other):
            continue
        left -= entry.size + other.size
        if left >= 0:
            wanted.add(name)
    return wanted


def _are_files(*entries: Entry) -> bool:
    return all(entry.kind == tarfile.REGTYPE for entry in entries)


def _differences(ours: dict[str, Entry], theirs: dict[str, Entry]) -> Iterator[Difference]:
    for name, entry in ours.items():
        other, path = theirs.get(name), printable(name)
        if other is None:
            yield Difference(path, What.ONLY_IN_PACKAGE, _kind(entry))
        else:
            for what, detail in _of_member(name, entry, other):
                yield Difference(path, what, detail)
    for name, entry in theirs.items():
        if name not in ours:
            yield Difference(printable(name), What.ONLY_BUILT, _kind(entry))


def _kind(entry: Entry) -> str:
    return KINDS[entry.kind]


def _of_member(name: str, a: Entry, b: Entry) -> Iterator[tuple[What, str]]:
    if a.kind != b.kind:
        yield What.KIND, f"{_kind(a)} → {_kind(b)}"
    elif a.sha256 != b.sha256:
        yield What.CONTENT, _content(name, a, b)
    if a.kind == b.kind and a.link != b.link:
        yield What.LINK, f"{printable(a.link)} → {printable(b.link)}"
    if a.mode != b.mode:
        yield What.MODE, f"{a.mode:04o} → {b.mode:04o}"
    if a.owner != b.owner:
        yield What.OWNER, f"{_owner(a)} → {_owner(b)}"
    if a.time != b.time:
        yield What.TIME, f"{a.time} → {b.time}"


def _content(name: str, a: Entry, b: Entry) -> str:
    if a.content is None or b.content is None:
        return f"{a.size:,} and {b.size:,} bytes; too much differs to look into each file"
    return why_different(name, a.content, b.content)


def _owner(entry: Entry) -> str:
    user, uid, group, gid = entry.owner
    return printable(f"{user}({uid}):{group}({gid})")


def _archive(package: Path, built: Path, ours: dict[str, Entry], theirs: dict[str, Entry]) -> str:
    """Why archives of the same members differ."""
    if [*ours] != [*theirs]:
        return "the same members in another order"
    if content_digest(package) == content_digest(built):
        return "compressed in another way (gzip's header, the level or the library)"
    return "the same members, with other headers of tar or other padding"
