"""Names of libraries: their files in a tree, and the tags of bundled ones."""

import hashlib
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slurm_factory.relocate.elf import ElfKind, FactsByPath
from slurm_factory.relocate.tree import symlinks
from slurm_factory.util.files import lies_inside

PRIVATE = PurePosixPath("lib/private")
PREFERRED = (PurePosixPath("lib"), PurePosixPath("lib/slurm"), PRIVATE)
TAG = re.compile(r"-[0-9a-f]{8}(?=\.so|$)")
TAG_LENGTH = 8


def tagged(soname: str, content: bytes) -> str:
    """`soname` with a tag from the content of the library: libz.so.1 becomes libz-1a2b3c4d.so.1.

    A process can then load this library and the machine's library with the same soname at the same
    time, as with auditwheel for wheels.
    """
    stem, dot, rest = soname.partition(".so")
    tag = hashlib.sha256(content).hexdigest()[:TAG_LENGTH]
    return f"{stem}-{tag}{dot}{rest}"


def untagged(name: str) -> str:
    """The original soname of a tagged library."""
    return TAG.sub("", name)


@dataclass(frozen=True, slots=True)
class LibraryIndex:
    """The directories of a tree (relative to it) in which a name is a shared library."""

    directories: dict[str, tuple[PurePosixPath, ...]]

    def __contains__(self, name: str) -> bool:
        return name in self.directories

    def directory_of(self, name: str, near: PurePosixPath) -> PurePosixPath | None:
        """The directory in which a file in `near` should look for the library `name`."""
        return min(
            self.directories.get(name, ()),
            key=lambda directory: (directory != near, _rank(directory), directory),
            default=None,
        )


def index_libraries(tree: Path, facts: FactsByPath) -> LibraryIndex:
    """Index the shared libraries of `tree` (host) by file name, symbolic links included."""
    libraries = [path for path, elf in facts.items() if elf.kind is ElfKind.SHARED]
    places = [*libraries, *_links_to(tree, frozenset(libraries))]
    directories = defaultdict(list)
    for place in places:
        directories[place.name].append(place.parent)
    return LibraryIndex({name: tuple(found) for name, found in directories.items()})


def run_path_between(start: PurePosixPath, directories: Iterable[PurePosixPath]) -> tuple[str, ...]:
    """`$ORIGIN`-relative run path of a file in `start` to `directories`, all relative to a tree."""
    ordered = sorted(set(directories), key=lambda place: (place != start, _rank(place), place))
    return tuple(_relative_to_origin(start, directory) for directory in ordered)


def _relative_to_origin(start: PurePosixPath, directory: PurePosixPath) -> str:
    relative = posixpath.relpath(directory, start)
    return "$ORIGIN" if relative == "." else f"$ORIGIN/{relative}"


def _links_to(tree: Path, libraries: frozenset[PurePosixPath]) -> Iterable[PurePosixPath]:
    root = tree.resolve()
    for link in symlinks(tree):
        if lies_inside(tree, link):
            target = PurePosixPath(Path(os.path.realpath(link)).relative_to(root))
            if target in libraries:
                yield PurePosixPath(link.relative_to(tree))


def _rank(directory: PurePosixPath) -> int:
    return PREFERRED.index(directory) if directory in PREFERRED else len(PREFERRED)
