"""Make a tree of programs and libraries run from any path.

`find_closure` reads the tree and fetches the libraries that it lacks; `relocate` then needs nothing
from outside. Analysis (`scan`, `plan_edits`) is apart from writing (`apply_edits`), and `audit`
looks at the result with the same analysis, and needs only the tree and the policy.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slurm_factory.relocate.closure import Closure, Library, LibrarySource, PlacedDirectory, collect
from slurm_factory.relocate.edits import apply_edits, plan_edits
from slurm_factory.relocate.elf import scan
from slurm_factory.relocate.names import PRIVATE, index_libraries, tagged
from slurm_factory.relocate.policy import Policy
from slurm_factory.relocate.tree import make_room, normalize, regular_files


@dataclass(frozen=True, slots=True)
class Bundled:
    """A bundled library; `path` is relative to the tree."""

    library: Library
    path: PurePosixPath
    tagged: bool


@dataclass(frozen=True, slots=True)
class Relocation:
    """The result of relocating a tree."""

    bundled: tuple[Bundled, ...]
    directories: tuple[PlacedDirectory, ...]


def find_closure(tree: Path, source: LibrarySource, policy: Policy) -> Closure:
    """Find and fetch all libraries that a tree needs and does not contain.

    Args:
        tree: The tree (host), stripped; not changed.
        source: Source of the libraries.
        policy: Rules for libraries outside, libraries opened by name, and plugin directories.

    Raises:
        VerificationError: A library is missing, or a file is not valid ELF.
    """
    facts = scan(tree)
    return collect(facts, index_libraries(tree, facts), source, policy)


def relocate(tree: Path, closure: Closure, policy: Policy) -> Relocation:
    """Bundle the closure of a tree into its `lib/private` and let every file find its libraries.

    Bundled libraries get content-tagged names, except those that are opened by name. The same
    input gives the same bytes. A second run on the same tree changes nothing.

    Args:
        tree: The tree (host), stripped; changed in place.
        closure: What `find_closure` has found for it.
        policy: The same policy.

    Raises:
        VerificationError: A file is not valid ELF, patchelf failed, or the tree has a link in
            place of a directory that it needs.
    """
    bundled = tuple(_name(library, closure) for library in closure.libraries)
    _place(tree, closure, bundled)
    normalize(tree)
    facts = scan(tree)
    names = {item.library.soname: item.path.name for item in bundled}
    apply_edits(tree, plan_edits(facts, index_libraries(tree, facts), names, policy))
    return Relocation(bundled, closure.directories)


def _name(library: Library, closure: Closure) -> Bundled:
    keeps_name = library.soname in closure.opened_as
    content = library.path.read_bytes()
    name = library.soname if keeps_name else tagged(library.soname, content)
    return Bundled(library, PRIVATE / name, tagged=not keeps_name)


def _place(tree: Path, closure: Closure, bundled: tuple[Bundled, ...]) -> None:
    for placed in closure.directories:
        for file in regular_files(placed.directory.path):
            inner = file.relative_to(placed.directory.path)
            shutil.copy(file, make_room(tree, placed.target / inner))
    for item in bundled:
        shutil.copyfile(item.library.path, make_room(tree, item.path))
    for soname, names in closure.opened_as.items():
        for name in sorted(names - {soname}):
            make_room(tree, PRIVATE / name).symlink_to(soname)
