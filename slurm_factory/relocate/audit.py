"""Look at a finished tree: what would keep it from running elsewhere, and what it relies on."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from slurm_factory.relocate.checks import Subject, problems
from slurm_factory.relocate.elf import ElfFacts, FactsByPath, scan
from slurm_factory.relocate.names import PRIVATE, TAG, untagged
from slurm_factory.relocate.policy import Policy, matches
from slurm_factory.relocate.report import (
    AuditReport,
    BundledLibrary,
    Limit,
    OutsideLibrary,
)

GLIBC_VERSION = re.compile(r"GLIBC_(\d+(?:\.\d+)+)")
GLIBC_OF_MARKERS = {"GLIBC_ABI_DT_RELR": "2.36"}
"""Versions that glibc defines to be refused by older releases (elf/dl-version.c)."""


def audit(tree: Path, policy: Policy, build_paths: Sequence[str]) -> AuditReport:
    """Audit a tree without changing it or running anything of it.

    Args:
        tree: The tree (host).
        policy: Which libraries may stay outside, and known limits.
        build_paths: Prefixes (instance) that no run path, interpreter, script or pkg-config file
            may contain.

    Raises:
        VerificationError: A file starts like an ELF file and cannot be read as one.
    """
    subject = Subject(tree, scan(tree), policy, tuple(build_paths))
    bundled = _bundled(subject)
    return AuditReport(
        problems=problems(subject),
        glibc=highest_glibc(subject.facts),
        outside=_outside(subject),
        bundled=bundled,
        limits=_limits(subject, bundled),
    )


def highest_glibc(facts: FactsByPath) -> str | None:
    """The oldest glibc that has all versioned symbols the files want."""
    highest = max(map(_glibc_of, facts.values()), default=())
    return ".".join(map(str, highest)) or None


def _glibc_of(elf: ElfFacts) -> tuple[int, ...]:
    wanted = [version for need in elf.needs_versions for version in need.versions]
    numbers = [
        GLIBC_OF_MARKERS.get(version) or (match[1] if match else None)
        for version in wanted
        if (match := GLIBC_VERSION.fullmatch(version)) or version in GLIBC_OF_MARKERS
    ]
    return max((tuple(map(int, number.split("."))) for number in numbers if number), default=())


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
