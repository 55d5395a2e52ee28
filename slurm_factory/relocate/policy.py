"""The policy: libraries that may stay outside, libraries opened by name, and known limits."""

from fnmatch import fnmatchcase
from functools import cache
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

from slurm_factory.relocate.elf import ElfFacts
from slurm_factory.relocate.names import untagged
from slurm_factory.resources import load_json


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outside(_Record):
    """Libraries that the machine must provide.

    `sonames` are shell patterns; `packages` are those that provide them, by package manager.
    """

    sonames: tuple[str, ...]
    reason: str
    packages: dict[str, str] = {}


class Dlopened(_Record):
    """A library that files of the tree open by name.

    It goes into the tree if a file that matches one of the globs `needed_by` contains one of the
    names `named_as`. The first of `sonames` that exists is taken and keeps its name; the others
    that such a file tries (`named_as`, `also_tried`) become links to it, so that no library of the
    machine takes precedence.
    """

    sonames: tuple[str, ...]
    named_as: tuple[str, ...]
    also_tried: tuple[str, ...] = ()
    needed_by: tuple[str, ...]
    reason: str

    @property
    def names(self) -> frozenset[str]:
        """All names by which the library may be opened."""
        return frozenset((*self.sonames, *self.named_as, *self.also_tried))


class OnlyNamed(_Record):
    """Names of libraries (shell patterns) that a library contains but does not open.

    `library` is a shell pattern of the soname of the library, or of the name of a program.
    """

    library: str
    names: tuple[str, ...]
    reason: str


class Unversioned(_Record):
    """Symbols without a version (shell patterns) that programs outside the tree define.

    `files` are globs of the files that import them.
    """

    symbols: tuple[str, ...]
    files: tuple[str, ...]
    reason: str


class PluginDirectory(_Record):
    """A directory of plugins that a bundled library loads by a path of its own.

    `sources` are globs of instance paths, the first that exists is taken; `target` is relative to
    the tree; `consequence` describes the effect for users if the directory is missing.
    """

    id: str
    library: str
    sources: tuple[str, ...]
    target: PurePosixPath
    consequence: str


class KnownLimit(_Record):
    """A limit of relocation.

    `applies_to` are shell patterns of sonames of bundled libraries and of files of the tree.
    """

    id: str
    applies_to: tuple[str, ...]
    text: str


class Policy(_Record):
    """All rules for libraries, with reasons."""

    outside: tuple[Outside, ...]
    dlopened: tuple[Dlopened, ...]
    only_named: tuple[OnlyNamed, ...]
    unversioned: tuple[Unversioned, ...] = ()
    directories: tuple[PluginDirectory, ...]
    known_limits: tuple[KnownLimit, ...]

    def outside_for(self, soname: str) -> Outside | None:
        """The rule that lets `soname` stay outside, if any."""
        return next((rule for rule in self.outside if matches(soname, rule.sonames)), None)

    def opened_names(self, elf: ElfFacts) -> frozenset[str]:
        """Names of libraries that a file may open: those it contains, except its own."""
        own = untagged(elf.soname or elf.path.name)
        ignored = [
            name
            for rule in self.only_named
            if fnmatchcase(own, rule.library)
            for name in rule.names
        ]
        return frozenset(
            name for name in elf.mentions if name != own and not matches(name, tuple(ignored))
        )

    def is_defined_outside(self, symbol: str, path: PurePosixPath) -> bool:
        """Whether a program that loads the file `path` (relative to its tree) defines `symbol`."""
        return any(
            matches(symbol, rule.symbols) and matches(str(path), rule.files)
            for rule in self.unversioned
        )

    def dlopened_by(self, path: PurePosixPath, elf: ElfFacts) -> tuple[Dlopened, ...]:
        """The rules for libraries that the file `path` (relative to its tree) opens by name."""
        return tuple(
            rule
            for rule in self.dlopened
            if elf.mentions.intersection(rule.named_as) and matches(str(path), rule.needed_by)
        )


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether `name` matches one of the shell `patterns`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@cache
def load_policy() -> Policy:
    """The built-in policy (`resources/policy.json`)."""
    return Policy.model_validate(load_json("policy.json"))
