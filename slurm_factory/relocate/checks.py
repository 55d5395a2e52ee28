"""Each way in which a tree can fail elsewhere, as a check that tells the files and why."""

import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slurm_factory.relocate.elf import FactsByPath, VersionNeed
from slurm_factory.relocate.policy import Policy
from slurm_factory.relocate.report import Problem
from slurm_factory.relocate.tree import (
    BUILD_ONLY_SUFFIXES,
    entries,
    lies_inside,
    regular_files,
    symlinks,
)

ORIGIN = "$ORIGIN"
LOADER_DIRECTORIES = frozenset({"/lib", "/lib64"})


@dataclass(frozen=True, slots=True)
class Subject:
    """A tree (host), what is known about its files, and what they are held against."""

    tree: Path
    facts: FactsByPath
    policy: Policy
    build_paths: tuple[str, ...]

    def provider(self, path: PurePosixPath, name: str) -> PurePosixPath | None:
        """The file in the tree to which the run path of the file `path` leads for `name`."""
        for entry in self.facts[path].run_path:
            place = resolve_origin(entry, path.parent)
            candidate = self.tree / place / name if place else None
            if candidate and candidate.is_file() and lies_inside(self.tree, candidate):
                return PurePosixPath(candidate.resolve().relative_to(self.tree.resolve()))
        return None

    def build_path_in(self, text: str) -> str | None:
        """The path of the build that `text` contains."""
        return next((prefix for prefix in self.build_paths if prefix in text), None)


def problems(subject: Subject) -> tuple[Problem, ...]:
    """Everything that keeps a tree from running elsewhere, by path."""
    found = {problem for check in _CHECKS for problem in check(subject)}
    return tuple(sorted(found, key=lambda problem: (problem.path, problem.reason)))


def resolve_origin(entry: str, directory: PurePosixPath) -> PurePosixPath | None:
    """Where a run path entry of a file in `directory` leads, relative to the tree.

    None if it is not relative to `$ORIGIN` or leads out of the tree.
    """
    if entry != ORIGIN and not entry.startswith(f"{ORIGIN}/"):
        return None
    place = posixpath.normpath(posixpath.join(directory, entry[len(ORIGIN) :].lstrip("/")))
    return None if place.startswith("..") else PurePosixPath(place)


def _check_run_paths(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        if elf.uses_runpath:
            yield Problem(path, "uses DT_RUNPATH, over which LD_LIBRARY_PATH wins")
        for entry in elf.run_path:
            reason = _run_path_problem(subject, path, entry)
            if reason:
                yield Problem(path, reason)


def _run_path_problem(subject: Subject, path: PurePosixPath, entry: str) -> str | None:
    if subject.build_path_in(entry):
        return f"run path {entry} is a path of the build"
    place = resolve_origin(entry, path.parent)
    if place is None:
        return f"run path {entry} leads out of the tree"
    if not (subject.tree / place).is_dir():
        return f"run path {entry} leads nowhere"
    return None


def _check_interpreters(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        if elf.interpreter is None:
            continue
        if subject.build_path_in(elf.interpreter):
            yield Problem(path, f"interpreter {elf.interpreter} is a path of the build")
        elif posixpath.dirname(elf.interpreter) not in LOADER_DIRECTORIES:
            yield Problem(path, f"interpreter {elf.interpreter} is not the system's")


def _check_needed(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        for name in elf.needed:
            if "/" in name:
                yield Problem(path, f"needs {name} by path")
            elif not subject.provider(path, name) and not subject.policy.outside_for(name):
                yield Problem(path, f"needs {name}, to which its run path does not lead")


def _check_opened_by_name(subject: Subject) -> Iterator[Problem]:
    for path, elf in subject.facts.items():
        for name in sorted(subject.policy.opened_names(elf) - {*elf.needed}):
            if _is_alternative(subject, path, name):
                continue
            if not subject.provider(path, name) and not subject.policy.outside_for(name):
                yield Problem(path, f"opens {name} by name, to which its run path does not lead")


def _is_alternative(subject: Subject, path: PurePosixPath, name: str) -> bool:
    """Whether `name` is one of several names for a library, another of which is found."""
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
        return f"wants versions of {need.library}, which it does not need"
    if "GLIBC_PRIVATE" in need.versions:
        return f"wants GLIBC_PRIVATE of {need.library}, which fits one build of glibc only"
    provider = subject.facts.get(subject.provider(path, need.library) or PurePosixPath())
    if provider is None or not provider.defines_versions:
        return None
    missing = sorted(set(need.versions) - provider.defines_versions)
    return f"wants {', '.join(missing)} of {need.library}, which lacks it" if missing else None


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
            yield Problem(path, "is only needed to build")


def _check_symlinks(subject: Subject) -> Iterator[Problem]:
    for link in symlinks(subject.tree):
        path = PurePosixPath(link.relative_to(subject.tree))
        target = link.readlink()
        if target.is_absolute():
            yield Problem(path, f"is an absolute symbolic link to {target}")
        elif not lies_inside(subject.tree, link):
            yield Problem(path, f"is a symbolic link out of the tree, to {target}")
        elif not link.exists():
            yield Problem(path, f"is a symbolic link to {target}, which does not exist")


def _check_texts(subject: Subject) -> Iterator[Problem]:
    for absolute in regular_files(subject.tree):
        if absolute.suffix == ".pc" or _starts_with(absolute, b"#!"):
            baked = subject.build_path_in(absolute.read_text("utf-8", errors="replace"))
            if baked:
                path = PurePosixPath(absolute.relative_to(subject.tree))
                yield Problem(path, f"contains {baked}, a path of the build")


_CHECKS: tuple[Callable[[Subject], Iterable[Problem]], ...] = (
    _check_run_paths,
    _check_interpreters,
    _check_needed,
    _check_opened_by_name,
    _check_versions,
    _check_entries,
    _check_symlinks,
    _check_texts,
)


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic
