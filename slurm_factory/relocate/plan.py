"""What has to change in each ELF file so that it finds its libraries from where it lies; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from slurm_factory.relocate.elf import ElfFacts, FactsByPath
from slurm_factory.relocate.names import PRIVATE, LibraryIndex, run_path_between
from slurm_factory.relocate.policy import Policy


@dataclass(frozen=True, slots=True)
class Edit:
    """All changes to one ELF file, `path` relative to the tree.

    `soname` None leaves the soname; `run_path` is the whole new one, empty to remove it.
    """

    path: PurePosixPath
    soname: str | None
    replace_needed: tuple[tuple[str, str], ...]
    run_path: tuple[str, ...]


def plan_edits(
    facts: FactsByPath, index: LibraryIndex, names: Mapping[str, str], policy: Policy
) -> tuple[Edit, ...]:
    """The edits that make a tree independent of where it lies; files already right have none.

    Args:
        facts: The ELF files of the tree, bundled libraries in place.
        index: The libraries of the tree.
        names: File name in `lib/private` of each bundled library, by soname.
        policy: Tells which of the names in a file are of libraries that it opens.
    """
    bundled = {PRIVATE / name for name in names.values()}
    edits = (
        Edit(
            path=path,
            soname=path.name if path in bundled and path.name != elf.soname else None,
            replace_needed=tuple((old, names[old]) for old in elf.needed if _renamed(old, names)),
            run_path=_run_path(path, (*elf.needed, *policy.opened_names(elf)), index, names),
        )
        for path, elf in facts.items()
    )
    return tuple(edit for edit in edits if _changes(edit, facts[edit.path]))


def _renamed(name: str, names: Mapping[str, str]) -> bool:
    return names.get(name, name) != name


def _run_path(
    path: PurePosixPath, libraries: tuple[str, ...], index: LibraryIndex, names: Mapping[str, str]
) -> tuple[str, ...]:
    wanted = (names.get(name, name) for name in libraries)
    directories = (index.directory_of(name, path.parent) for name in wanted)
    return run_path_between(path.parent, filter(None, directories))


def _changes(edit: Edit, elf: ElfFacts) -> bool:
    run_path_is_right = elf.run_path == edit.run_path and not elf.uses_runpath
    return not run_path_is_right or bool(edit.replace_needed) or edit.soname is not None
