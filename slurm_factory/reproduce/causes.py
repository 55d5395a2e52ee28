"""What was another one when a package was built than when it was built again. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from slurm_factory.relocate.names import untagged
from slurm_factory.util.hints import printable

if TYPE_CHECKING:
    from slurm_factory.package.manifest import Manifest, SpackBuild

NONE = "none"
NOT_COMPARED = {"base", "release", "backports", "unavailable", "spack", "destructive", "factory"}
"""Keys of a plan that have causes of their own, or do not affect bytes."""
OF_RELEASE = ("sha256", "tag", "date", "commit", "spack_version")
OF_SPACK = ("ref", "packages_ref", "target", "config")


class Kind(StrEnum):
    """Where something is another one."""

    PROGRAM = "program"
    PLAN = "plan"
    SOURCE = "source"
    BASE = "base"
    SPACK = "spack"


@dataclass(frozen=True)
class Cause:
    """Something that was another one.

    Attributes:
        kind: Where.
        name: What, such as a package.
        package: What it was for the package.
        built: What it is here.
    """

    kind: Kind
    name: str
    package: str
    built: str

    def __str__(self) -> str:
        return f"{self.name} {self.package} → {self.built}"


def find_causes(manifest: Manifest, plan: Mapping[str, Any]) -> tuple[Cause, ...]:
    """What is another one before anything is built, but for the base.

    Args:
        manifest: Manifest of the package.
        plan: The plan that builds it again, as it describes itself.
    """
    return (*_of_program(manifest, plan), *_of_plan(manifest.plan, plan))


def base_causes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[Cause, ...]:
    """What is another one in the base.

    Args:
        ours: The record of the package's base.
        theirs: That of the base here.
    """
    found = [*_changed(Kind.BASE, _table(ours, "packages"), _table(theirs, "packages"))]
    checkouts = _table(ours, "checkouts"), _table(theirs, "checkouts")
    found += _changed(Kind.SPACK, *checkouts)
    # Paths and versions of the tools that Spack takes from the base follow from its packages.
    if not found and ours.get("externals") != theirs.get("externals"):
        found.append(Cause(Kind.BASE, "externals of Spack", "others", "others"))
    return tuple(found)


def spack_causes(ours: SpackBuild | None, theirs: SpackBuild | None) -> tuple[Cause, ...]:
    """Packages that Spack has chosen in another way."""
    if ours is None or theirs is None:
        return ()
    tables = [
        {each.name: f"{each.version} /{each.hash[:7]}" for each in side.packages}
        for side in (ours, theirs)
    ]
    return tuple(_changed(Kind.SPACK, *tables))


def explains(cause: Cause, path: str, packages: Mapping[str, str]) -> bool:
    """Whether a cause may have changed a file.

    Args:
        cause: The cause.
        path: Path of the file in the tree.
        packages: The package of each file that is not Slurm's own, by its path without tags.
    """
    if cause.kind not in {Kind.BASE, Kind.SPACK}:
        return True
    package = packages.get(plain(path))
    return package is None or package == cause.name.partition(":")[0]


def plain(path: str) -> str:
    """A path in the tree without the tag that a bundled library's content gives its name."""
    directory, slash, name = path.rpartition("/")
    return f"{directory}{slash}{untagged(name)}"


def packages_of(manifest: Manifest) -> dict[str, str]:
    """The package of each bundled file, by its path without tags."""
    return {plain(item.file): item.package for item in manifest.bundled}


def _of_program(manifest: Manifest, plan: Mapping[str, Any]) -> Iterator[Cause]:
    versions = {"slurm-factory": manifest.slurm_factory}, {"slurm-factory": str(plan["factory"])}
    yield from _changed(Kind.PROGRAM, *versions)
    parts = {"recipe": "scripts and templates", "code": "code that packs"}
    for key, name in parts.items():
        yield from _changed(
            Kind.PROGRAM,
            {name: str(manifest.plan.get(key, ""))[:12]},
            {name: str(plan[key])[:12]},
        )
    yield from _changed(Kind.PROGRAM, _table(manifest.plan, "tools"), _table(plan, "tools"))


def _of_plan(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Cause]:
    parts: tuple[tuple[Kind, str, tuple[str, ...], str], ...] = (
        (Kind.SOURCE, "source", OF_RELEASE, "release"),
        (Kind.SPACK, "Spack's", OF_SPACK, "spack"),
    )
    for kind, word, keys, name in parts:
        sides = [
            {f"{word} {key}": _short(_part(side, name).get(key)) for key in keys}
            for side in (ours, theirs)
        ]
        yield from _changed(kind, *sides)
    ignored = {*NOT_COMPARED, "recipe", "code", "tools", "version"}
    for key in sorted((ours.keys() | theirs.keys()) - ignored):
        if ours.get(key) != theirs.get(key):
            yield Cause(Kind.PLAN, key, *_only_changed(ours.get(key), theirs.get(key)))


def _only_changed(a: object, b: object) -> tuple[str, str]:
    """Both values for display; of two lists, what only one of them has."""
    if isinstance(a, list) and isinstance(b, list):
        removed, added = [x for x in a if x not in b], [x for x in b if x not in a]
        if removed or added:
            return _short(removed), _short(added)
    return _short(a), _short(b)


def _short(value: object) -> str:
    if value in (None, "", [], {}):
        return NONE
    if isinstance(value, list):
        return printable(" ".join(map(_word, value)))
    return printable(_word(value))


def _word(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("name", value))
    return str(value)


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    return part if isinstance(part, dict) else {}


def _table(document: Mapping[str, Any], name: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in _part(document, name).items()}


def _changed(kind: Kind, ours: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[Cause]:
    for name in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(name, NONE), theirs.get(name, NONE)
        if a != b:
            yield Cause(kind, printable(name), printable(a), printable(b))
