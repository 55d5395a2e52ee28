"""The audit of a tree: its checks and the report."""

import posixpath
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from slurm_factory.constants import INSTANCE_BUILD, INSTANCE_CACHE
from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.elf import MACHINES, ElfFacts, FactsByPath, VersionNeed, scan
from slurm_factory.relocate.hardening import Figure, HardeningByPath, Share, count
from slurm_factory.relocate.names import PRIVATE, TAG, untagged
from slurm_factory.relocate.policy import Policy, matches
from slurm_factory.relocate.tree import (
    BUILD_ONLY_SUFFIXES,
    entries,
    regular_files,
    symlinks,
)
from slurm_factory.util.files import lies_inside

SHOWN_PROBLEMS = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that may stop a tree from running elsewhere; `path` is relative to the tree."""

    path: PurePosixPath
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class OutsideLibrary:
    """A library that the machine must have, or may have if files only open it by name.

    `versions` are the required symbol versions; `packages` are those that provide it, by package
    manager.
    """

    soname: str
    reason: str
    packages: dict[str, str]
    versions: tuple[str, ...]
    linked_by: tuple[PurePosixPath, ...]
    opened_by: tuple[PurePosixPath, ...]


@dataclass(frozen=True, slots=True)
class BundledLibrary:
    """A library in `lib/private` or below; `soname` is the one it had before it was tagged.

    Plugins of a library often have no soname; then it is the file name.
    """

    path: PurePosixPath
    soname: str
    tagged: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of relocation, for the manifest."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The report of an audit; `glibc` is the required release, None if any works."""

    problems: tuple[Problem, ...]
    glibc: str | None
    outside: tuple[OutsideLibrary, ...]
    bundled: tuple[BundledLibrary, ...]
    limits: tuple[Limit, ...]
    hardening: HardeningByPath

    @property
    def totals(self) -> dict[Figure, Share]:
        """How many files of the tree have each property."""
        return count(self.hardening.values())

    def require_clean(self) -> None:
        """Do nothing if there are no problems.

        Raises:
            VerificationError: There are problems; lists the first few and their number.
        """
        if self.problems:
            first = "; ".join(str(problem) for problem in self.problems[:SHOWN_PROBLEMS])
            raise VerificationError(
                f"The audit found {len(self.problems)} problem(s): the tree is not relocatable.",
                details=first,
                resolution=(
                    "`slurm-factory build` should never cause these: build again, and if they"
                    " remain, report them with the build log."
                ),
            )


ORIGIN = "$ORIGIN"
LOADER_DIRECTORIES = frozenset({"/lib", "/lib64"})


@dataclass(frozen=True)
class Subject:
    """A tree (host), the facts about its files, the policy, and the newest glibc and the
    architecture that they may be for."""

    tree: Path
    facts: FactsByPath
    policy: Policy
    build_paths: tuple[str, ...]
    floor: str = ""
    architecture: str = ""

    @cached_property
    def exports(self) -> frozenset[bytes]:
        """All symbols that files of the tree define."""
        return frozenset(name for elf in self.facts.values() for name in elf.symbols.exports)

    def provider(self, path: PurePosixPath, name: str) -> PurePosixPath | None:
        """The file in the tree that the run path of `path` finds for `name`."""
        for entry in self.facts[path].run_path:
            place = resolve_origin(entry, path.parent)
            candidate = self.tree / place / name if place else None
            if candidate and candidate.is_file() and lies_inside(self.tree, candidate):
                return PurePosixPath(candidate.resolve().relative_to(self.tree.resolve()))
        return None

    def build_path_in(self, text: str) -> str | None:
        """The build path that `text` contains."""
        return next((prefix for prefix in self.build_paths if prefix in text), None)


def problems(subject: Subject) -> tuple[Problem, ...]:
    """All problems that stop a tree from running elsewhere, by path."""
    found = {problem for about in CHECKS for problem in problems_of(subject, about)}
    return tuple(sorted(found, key=_order))


def problems_of(subject: Subject, about: str) -> tuple[Problem, ...]:
    """The problems that one group of `CHECKS` finds, by path."""
    return tuple(sorted({each for check in CHECKS[about] for each in check(subject)}, key=_order))


def _order(problem: Problem) -> tuple[PurePosixPath, str]:
    return problem.path, problem.reason


def resolve_origin(entry: str, directory: PurePosixPath) -> PurePosixPath | None:
    """Target of a run path entry of a file in `directory`, relative to the tree.

    None if it is not relative to `$ORIGIN` or points outside the tree.
    """
    if entry != ORIGIN and not entry.startswith(f"{ORIGIN}/"):
        return None
    place = posixpath.normpath(posixpath.join(directory, entry[len(ORIGIN) :].lstrip("/")))
    return None if place.startswith("..") else PurePosixPath(place)


def _check_run_paths(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        if elf.uses_runpath:
            yield Problem(path, "uses DT_RUNPATH, which LD_LIBRARY_PATH overrides")
        for entry in elf.run_path:
            reason = _run_path_problem(subject, path, entry)
            if reason:
                yield Problem(path, reason)


def _run_path_problem(subject: Subject, path: PurePosixPath, entry: str) -> str | None:
    if subject.build_path_in(entry):
        return f"run path {entry} is a build path"
    place = resolve_origin(entry, path.parent)
    if place is None:
        return f"run path {entry} points outside the tree"
    if not (subject.tree / place).is_dir():
        return f"run path {entry} does not exist"
    return None


def _check_interpreters(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        if elf.interpreter is None:
            continue
        if subject.build_path_in(elf.interpreter):
            yield Problem(path, f"interpreter {elf.interpreter} is a build path")
        elif posixpath.dirname(elf.interpreter) not in LOADER_DIRECTORIES:
            yield Problem(path, f"interpreter {elf.interpreter} is not the system's")


def _check_machines(subject: Subject) -> Iterator[Problem]:
    if subject.architecture not in MACHINES.values():
        return
    for path, elf in subject.facts.items():
        if elf.machine != subject.architecture:
            yield Problem(path, f"is for {elf.machine}, not for {subject.architecture}")


def _check_stacks(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        if elf.hardening.executable_stack:
            yield Problem(path, "needs an executable stack, which glibc 2.41 refuses to plugins")


def _check_needed(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        for name in elf.needed:
            if "/" in name:
                yield Problem(path, f"needs {name} by path")
            elif not subject.provider(path, name) and not subject.policy.outside_for(name):
                yield Problem(path, f"needs {name}, which its run path does not find")


def _check_opened_by_name(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        for name in sorted(subject.policy.opened_names(elf) - {*elf.needed}):
            if _is_alternative(subject, path, name):
                continue
            if not subject.provider(path, name) and not subject.policy.outside_for(name):
                yield Problem(path, f"opens {name} by name, which its run path does not find")


def _is_alternative(subject: Subject, path: PurePosixPath, name: str) -> bool:
    """Whether `name` is one of several names for a library, and another name is found."""
    rules = subject.policy.dlopened_by(path, subject.facts[path])
    return any(
        name in rule.names and any(subject.provider(path, other) for other in rule.sonames)
        for rule in rules
    )


def _check_versions(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        for need in elf.needs_versions:
            reason = _version_problem(subject, path, need)
            if reason:
                yield Problem(path, reason)


def _version_problem(subject: Subject, path: PurePosixPath, need: VersionNeed) -> str | None:
    if need.library not in subject.facts[path].needed:
        return f"requires versions of {need.library}, which it does not need"
    if "GLIBC_PRIVATE" in need.versions:
        return f"requires GLIBC_PRIVATE of {need.library}, which works only with one build of glibc"
    provider = subject.facts.get(subject.provider(path, need.library) or PurePosixPath())
    if provider is None or not provider.defines_versions:
        return None
    missing = sorted(set(need.versions) - provider.defines_versions)
    return f"requires {', '.join(missing)} of {need.library}, which lacks it" if missing else None


def _check_floor(subject: Subject) -> Iterator[Problem]:
    if not subject.floor:
        return
    newest = _numbers(subject.floor)
    for path, elf in subject.facts.items():
        for need in elf.needs_versions:
            above = [version for version in need.versions if _is_above(version, newest)]
            if above:
                names = ", ".join(above)
                yield Problem(path, f"requires {names} of {need.library}, above {subject.floor}")


def _check_symbols(subject: Subject) -> Iterator[Problem]:
    """A function of a newer glibc than the one that a file was linked to has no version."""
    for path, elf in subject.facts.items():
        for name in sorted(elf.symbols.unversioned - subject.exports):
            symbol = name.decode(errors="replace")
            if not subject.policy.is_defined_outside(symbol, path):
                yield Problem(path, f"imports {symbol}, which nothing defines")


def _check_copies(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        for name in sorted(elf.symbols.lone_copies):
            symbol = name.decode(errors="replace")
            yield Problem(path, f"has a copy of {symbol}, which the C library does not set")


def _check_entries(subject: Subject) -> Iterator[Problem]:
    for absolute, status in entries(subject.tree):
        path = PurePosixPath(absolute.relative_to(subject.tree))
        if stat.S_ISLNK(status.st_mode):
            continue
        if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            yield Problem(path, "is setuid or setgid")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield Problem(path, "is writable for its group or for everyone")
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            yield Problem(path, "is neither a file, a directory nor a symbolic link")
        if path.suffix in BUILD_ONLY_SUFFIXES and stat.S_ISREG(status.st_mode):
            yield Problem(path, "is only a build file")


def _check_symlinks(subject: Subject) -> Iterator[Problem]:
    for link in symlinks(subject.tree):
        path = PurePosixPath(link.relative_to(subject.tree))
        target = link.readlink()
        if target.is_absolute():
            yield Problem(path, f"is an absolute symbolic link to {target}")
        elif not lies_inside(subject.tree, link):
            yield Problem(path, f"is a symbolic link to {target}, outside the tree")
        elif not link.exists():
            yield Problem(path, f"is a symbolic link to {target}, which does not exist")


def _check_texts(subject: Subject) -> Iterator[Problem]:
    for absolute in regular_files(subject.tree):
        if absolute.suffix == ".pc" or _starts_with(absolute, b"#!"):
            baked = subject.build_path_in(absolute.read_text("utf-8", errors="replace"))
            if baked:
                path = PurePosixPath(absolute.relative_to(subject.tree))
                yield Problem(path, f"contains {baked}, a build path")


def _check_data(subject: Subject) -> Iterator[Problem]:
    """Messages may name source files; anything else would be looked for at run time."""
    scratch = [path for path in subject.build_paths if PurePosixPath(path) in SCRATCH]
    if not scratch:
        return
    baked = re.compile(b"(?:%s)/[ -~]*" % b"|".join(re.escape(each.encode()) for each in scratch))
    for path, elf in subject.facts.items():
        # Other checks look at these, which are data of the file, too.
        known = [each.encode() for each in (*elf.run_path, elf.interpreter or "")]
        for text in sorted(set(baked.findall((subject.tree / path).read_bytes()))):
            if not SOURCE_FILE.search(text) and not any(text in each for each in known):
                yield Problem(path, f"contains {text.decode()[:LONGEST_SHOWN]}, a build path")


CHECKS: dict[str, tuple[Callable[[Subject], Iterable[Problem]], ...]] = {
    "run-paths": (_check_run_paths, _check_interpreters),
    "closure": (_check_needed, _check_opened_by_name),
    "glibc": (_check_versions, _check_floor, _check_symbols, _check_copies),
    "architecture": (_check_machines,),
    "permissions": (_check_entries, _check_stacks),
    "links": (_check_symlinks,),
    "build-paths": (_check_texts, _check_data),
}
"""By what they are about."""


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


SCRATCH = (INSTANCE_CACHE, INSTANCE_BUILD)
"""Nothing in a package may look for a file there. Libraries of Spack name their own directories,
below one that only root can make, and patchelf leaves the run paths that it has replaced."""
SOURCE_FILE = re.compile(rb"\.(c|cc|cpp|f|f90|h|hpp|inc|l|y|S)\b")
LONGEST_SHOWN = 200
GLIBC_VERSION = re.compile(r"GLIBC_(\d+(?:\.\d+)+)")
GLIBC_OF_MARKERS = {"GLIBC_ABI_DT_RELR": "2.36"}
"""Versions that make older releases of glibc refuse a file (elf/dl-version.c)."""


def audit(
    tree: Path,
    policy: Policy,
    build_paths: Sequence[str],
    floor: str = "",
    architecture: str = "",
) -> AuditReport:
    """Audit a tree without changing it or running its programs.

    Args:
        tree: The tree (host).
        policy: Which libraries may stay outside, and known limits.
        build_paths: Prefixes (instance) that no run path, interpreter, script or pkg-config file
            may contain.
        floor: The newest glibc whose symbols files may need; empty: any.
        architecture: That of the machines it is for, as uname(1) names it; empty: any.

    Raises:
        VerificationError: A file starts like an ELF file but cannot be read as one.
    """
    subject = Subject(tree, scan(tree), policy, tuple(build_paths), floor, architecture)
    bundled = _bundled(subject)
    return AuditReport(
        problems=problems(subject),
        glibc=highest_glibc(subject.facts),
        outside=_outside(subject),
        bundled=bundled,
        limits=_limits(subject, bundled),
        hardening={path: elf.hardening for path, elf in subject.facts.items()},
    )


def highest_glibc(facts: FactsByPath) -> str | None:
    """The oldest glibc with all versioned symbols that the files need."""
    highest = max(map(_glibc_of, facts.values()), default=())
    return ".".join(map(str, highest)) or None


def _glibc_of(elf: ElfFacts) -> tuple[int, ...]:
    versions = (version for need in elf.needs_versions for version in need.versions)
    return max(map(_glibc_release, versions), default=())


def _is_above(version: str, newest: tuple[int, ...]) -> bool:
    """Whether a version is that of a newer glibc, or one of glibc that nobody here knows."""
    release = _glibc_release(version)
    return release > newest if release else version.startswith("GLIBC_")


def _glibc_release(version: str) -> tuple[int, ...]:
    """The release of glibc that has a version of symbols; empty for those of other libraries."""
    match = GLIBC_VERSION.fullmatch(version)
    number = GLIBC_OF_MARKERS.get(version) or (match[1] if match else "")
    return _numbers(number) if number else ()


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _outside(subject: Subject) -> tuple[OutsideLibrary, ...]:
    linked: dict[str, list[PurePosixPath]] = defaultdict(list)
    opened: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path, elf in subject.facts.items():
        for name in elf.needed:
            if not subject.provider(path, name):
                linked[name].append(path)
        for name in sorted(subject.policy.opened_names(elf) - {*elf.needed}):
            if not subject.provider(path, name):
                opened[name].append(path)
    rules = ((name, subject.policy.outside_for(name)) for name in sorted({*linked, *opened}))
    return tuple(
        OutsideLibrary(
            soname=name,
            reason=rule.reason,
            packages=rule.packages,
            versions=_versions_of(name, subject.facts),
            linked_by=tuple(linked[name]),
            opened_by=tuple(opened[name]),
        )
        for name, rule in rules
        if rule
    )


def _versions_of(library: str, facts: FactsByPath) -> tuple[str, ...]:
    needs = (need for elf in facts.values() for need in elf.needs_versions)
    return tuple(
        sorted({version for need in needs if need.library == library for version in need.versions})
    )


def _bundled(subject: Subject) -> tuple[BundledLibrary, ...]:
    return tuple(
        BundledLibrary(
            path=path,
            soname=untagged(path.name),
            tagged=TAG.search(path.name) is not None,
        )
        for path in subject.facts
        if PRIVATE in path.parents
    )


def _limits(subject: Subject, bundled: Sequence[BundledLibrary]) -> tuple[Limit, ...]:
    sonames = [library.soname for library in bundled]
    names = [*sonames, *map(str, subject.facts)]
    known = [
        Limit(limit.id, limit.text)
        for limit in subject.policy.known_limits
        if any(matches(name, limit.applies_to) for name in names)
    ]
    absent = [
        Limit(f"no-{rule.id}", rule.consequence)
        for rule in subject.policy.directories
        if any(matches(soname, (rule.library,)) for soname in sonames)
        and not (subject.tree / rule.target).is_dir()
    ]
    return (*known, *absent)
