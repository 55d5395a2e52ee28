"""Make a tree of programs and libraries run from any path.

Analysis (`scan`, `collect`, `plan_edits`) is apart from writing (`apply_edits`), and `audit` looks
at the result with the same analysis, and needs only the tree and the policy.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slurm_factory.relocate.closure import Closure, Library, LibrarySource, PlacedDirectory, collect
from slurm_factory.relocate.edits import apply_edits, plan_edits
from slurm_factory.relocate.elf import scan
from slurm_factory.relocate.names import PRIVATE, index_libraries, tagged
from slurm_factory.relocate.policy import Policy
from slurm_factory.relocate.tree import normalize


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


def relocate(tree: Path, source: LibrarySource, policy: Policy) -> Relocation:
    """Bundle the closure of a tree into its `lib/private` and let every file find its libraries.

    Bundled libraries get content-tagged names, except those that are opened by name. The same
    input gives the same bytes. A second run on the same tree changes nothing.

    Args:
        tree: The tree (host), stripped; changed in place.
        source: Source of the libraries.
        policy: Rules for libraries outside, libraries opened by name, and plugin directories.

    Raises:
        VerificationError: A library is missing, a file is not valid ELF, or patchelf failed.
    """
    facts = scan(tree)
    closure = collect(facts, index_libraries(tree, facts), source, policy)
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
        shutil.copytree(
            placed.directory.path, tree / placed.target, symlinks=True, dirs_exist_ok=True
        )
    (tree / PRIVATE).mkdir(parents=True, exist_ok=True)
    for item in bundled:
        shutil.copyfile(item.library.path, tree / item.path)
    _link_names(tree / PRIVATE, closure.opened_as)


def _link_names(private: Path, opened_as: Mapping[str, frozenset[str]]) -> None:
    for soname, names in opened_as.items():
        for name in sorted(names - {soname}):
            (private / name).unlink(missing_ok=True)
            (private / name).symlink_to(soname)
