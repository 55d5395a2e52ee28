"""The libraries that a tree needs from outside, found by following NEEDED."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.elf import ElfFacts, FactsByPath, read_elf, scan
from slurm_factory.relocate.names import PRIVATE, LibraryIndex
from slurm_factory.relocate.policy import PluginDirectory, Policy, matches


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library of the instance.

    `path` is a copy on the host (not a symbolic link), `origin` its path in the instance,
    `licenses` are copies of its license texts on the host.
    """

    soname: str
    path: Path
    origin: PurePosixPath
    package: str
    version: str
    licenses: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of the instance: `path` is a copy on the host, `origin` its path there."""

    path: Path
    origin: PurePosixPath
    package: str
    version: str
    licenses: tuple[Path, ...] = ()


class LibrarySource(Protocol):
    """The source of libraries: the instance in which the tree was built."""

    def fetch(self, sonames: Sequence[str]) -> Mapping[str, Library]:
        """Copies of the existing libraries, by requested soname."""
        ...

    def fetch_directory(self, patterns: Sequence[str]) -> Directory | None:
        """A copy of the first directory that matches one of the globs of instance paths."""
        ...


@dataclass(frozen=True, slots=True)
class PlacedDirectory:
    """A plugin directory and its target, relative to the tree."""

    directory: Directory
    target: PurePosixPath


@dataclass(frozen=True, slots=True)
class Closure:
    """Files to bundle into a tree.

    `opened_as` has, for each library that is opened by name, all these names.
    """

    libraries: tuple[Library, ...]
    directories: tuple[PlacedDirectory, ...]
    opened_as: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Wish:
    names: tuple[str, ...]
    opened_as: frozenset[str]
    wanted_by: PurePosixPath


@dataclass(slots=True)
class _Walk:
    source: LibrarySource
    policy: Policy
    index: LibraryIndex
    facts: FactsByPath = field(default_factory=dict)
    libraries: dict[str, Library] = field(default_factory=dict)
    directories: dict[str, PlacedDirectory | None] = field(default_factory=dict)
    opened_as: dict[str, frozenset[str]] = field(default_factory=dict)


def collect(
    facts: FactsByPath, index: LibraryIndex, source: LibrarySource, policy: Policy
) -> Closure:
    """Find and fetch all libraries that a tree needs and does not contain.

    Args:
        facts: The ELF files of the tree.
        index: The libraries of the tree.
        source: Fetches libraries and plugin directories.
        policy: Rules for libraries outside, libraries opened by name, and plugin directories.

    Raises:
        VerificationError: A library exists neither in the tree nor in the instance.
    """
    walk = _Walk(source, policy, index)
    wave = facts
    while wave:
        walk.facts |= wave
        wave = _fetch_libraries(walk, wave) | _fetch_directories(walk)
    return Closure(
        libraries=tuple(walk.libraries[soname] for soname in sorted(walk.libraries)),
        directories=tuple(placed for placed in walk.directories.values() if placed),
        opened_as=_opened_by_name(walk),
    )


def _fetch_libraries(walk: _Walk, wave: FactsByPath) -> FactsByPath:
    wishes = [
        wish
        for path, elf in wave.items()
        for wish in (*_linked(walk, path, elf), *_opened(walk, path, elf))
    ]
    names = sorted({name for wish in wishes for name in wish.names} - walk.libraries.keys())
    found = walk.source.fetch(names) if names else {}
    available = {**found, **walk.libraries}
    new: FactsByPath = {}
    for wish in wishes:
        name = _choose(wish, available)
        if wish.opened_as:
            walk.opened_as[name] = walk.opened_as.get(name, frozenset()) | wish.opened_as
        if name not in walk.libraries:
            walk.libraries[name] = available[name]
            new[PRIVATE / name] = _library_facts(available[name])
    return new


def _linked(walk: _Walk, path: PurePosixPath, elf: ElfFacts) -> Iterator[_Wish]:
    for name in elf.needed:
        if name not in walk.index and walk.policy.outside_for(name) is None:
            yield _Wish((name,), frozenset(), path)


def _opened(walk: _Walk, path: PurePosixPath, elf: ElfFacts) -> Iterator[_Wish]:
    for rule in walk.policy.dlopened_by(path, elf):
        if not any(name in walk.index for name in rule.sonames):
            linked_first = sorted(rule.sonames, key=lambda name: name not in elf.needed)
            yield _Wish(tuple(linked_first), rule.names & elf.mentions, path)


def _choose(wish: _Wish, available: Mapping[str, Library]) -> str:
    for name in wish.names:
        if name in available:
            return name
    raise VerificationError(
        f"The library {wish.names[0]} is missing.",
        details=f"{wish.wanted_by} needs it; it is neither in the tree nor in the instance.",
        resolution=(
            "Add the package that holds it to the feature that needs it, or, if every machine has"
            " it, to `outside` in resources/policy.json."
        ),
    )


def _library_facts(library: Library) -> ElfFacts:
    facts = read_elf(library.path)
    if facts is None:
        raise VerificationError(
            f"The library {library.soname} is not an ELF file.",
            details=f"{library.origin} was copied to {library.path}.",
            resolution=f"Reinstall the package {library.package} in the base and build again.",
        )
    return facts


def _fetch_directories(walk: _Walk) -> FactsByPath:
    new: FactsByPath = {}
    for rule in walk.policy.directories:
        if rule.id not in walk.directories and _is_wanted(rule, walk):
            directory = walk.source.fetch_directory(rule.sources)
            walk.directories[rule.id] = None
            if directory:
                walk.directories[rule.id] = PlacedDirectory(directory, rule.target)
                found = scan(directory.path)
                new |= {rule.target / path: elf for path, elf in found.items()}
    return new


def _is_wanted(rule: PluginDirectory, walk: _Walk) -> bool:
    names = (*walk.libraries, *walk.index.directories)
    return any(matches(name, (rule.library,)) for name in names)


def _opened_by_name(walk: _Walk) -> Mapping[str, frozenset[str]]:
    """Add libraries from NEEDED whose soname is a constant in another file."""
    opened = {name for elf in walk.facts.values() for name in walk.policy.opened_names(elf)}
    linked_too = {name: frozenset({name}) for name in walk.libraries if name in opened}
    return linked_too | walk.opened_as
