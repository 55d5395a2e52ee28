"""The feature table: the features of a package, by build type, recipe, series and base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from packaging.version import Version
from pydantic import BaseModel, ConfigDict, Field

from slurm_factory.constants import BuildType, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.resources import load_toml
from slurm_factory.util.hints import did_you_mean, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.plan.bases import Base
    from slurm_factory.plan.releases import Release

VARIANT_PATTERN = re.compile(r"(?P<sign>[+~-])(?P<name>[a-z0-9_]+)")

FrozenModel = ConfigDict(frozen=True, extra="forbid")


class Empty(BaseModel):
    """Plans that cannot have a feature, and why."""

    model_config = FrozenModel

    reason: str
    recipe: Deps | None = None
    bases: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    cross: bool = False
    """Only plans that are compiled on a machine of another architecture."""
    before: str | None = None
    """First series that has it."""

    def applies(
        self,
        release: Release,
        base: Base,
        recipe: Deps,
        architecture: str,
        *,
        cross: bool = False,
    ) -> bool:
        """Whether this cell applies to the plan."""
        return (
            (cross or not self.cross)
            and self.recipe in (None, recipe)
            and (not self.bases or base.name in self.bases)
            and (not self.architectures or architecture in self.architectures)
            and (self.before is None or Version(release.series) < Version(self.before))
        )


class Feature(BaseModel):
    """One row of the table; resources/features.toml explains the columns."""

    model_config = FrozenModel

    name: str
    summary: str
    types: tuple[BuildType, ...] = ()
    variant: str | None = None
    on: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    needs: str | None = None
    refines: Mapping[str, str] = Field(default_factory=dict)
    empty: Annotated[tuple[Empty, ...], Field(alias="except")] = ()

    def why_not(
        self,
        release: Release,
        base: Base,
        recipe: Deps,
        architecture: str,
        *,
        cross: bool = False,
    ) -> str | None:
        """The reason why a plan cannot have the feature, or None."""
        asked = (release, base, recipe, architecture)
        cells = (cell for cell in self.empty if cell.applies(*asked, cross=cross))
        return next((cell.reason for cell in cells), None)


class Absence(BaseModel):
    """Plugins that no package has; resources/known-absences.toml explains the columns."""

    model_config = FrozenModel

    plugins: tuple[str, ...]
    settings: tuple[str, ...]
    reason: str
    one_of_them: bool = False
    """A package has exactly one of the plugins, depending on its libraries."""


@dataclass(frozen=True)
class Selection:
    """The features of one plan, in the order of the table."""

    chosen: tuple[Feature, ...]
    left_out: tuple[Feature, ...]
    unavailable: Mapping[str, str]
    """Features of the build type that this plan cannot have, with the reason."""

    @property
    def configure_arguments(self) -> tuple[str, ...]:
        """Arguments of configure for included and excluded features."""
        on = [argument for feature in self.chosen for argument in feature.on]
        off = [argument for feature in self.left_out for argument in feature.off]
        return (*on, *off)

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants of Spack's Slurm package: +name for included features, ~name for others.

        Syntax: spack.readthedocs.io/en/latest/spec_syntax.html#variants.
        """
        on = [f"+{feature.variant}" for feature in self.chosen if feature.variant]
        off = [f"~{feature.variant}" for feature in self.left_out if feature.variant]
        return (*on, *off)

    @property
    def roots(self) -> tuple[str, ...]:
        """Specs to build with Spack beside Slurm."""
        return tuple(
            " ".join([root, *(f.refines[root] for f in self.chosen if root in f.refines)])
            for feature in self.chosen
            for root in feature.roots
        )

    @property
    def defines(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a feature and its macro in config.h."""
        return tuple((feature.name, macro) for feature in self.chosen for macro in feature.defines)

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a feature and its file in the tree."""
        return tuple((feature.name, file) for feature in self.chosen for file in feature.files)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of additional sources (resources/sources.toml)."""
        return tuple(source for feature in self.chosen for source in feature.sources)


@cache
def table() -> tuple[Feature, ...]:
    """All rows."""
    return tuple(Feature.model_validate(row) for row in load_toml("features.toml")["feature"])


@cache
def known_absences() -> tuple[Absence, ...]:
    """The plugins that no package has, with the reasons."""
    rows = load_toml("known-absences.toml")["absence"]
    return tuple(Absence.model_validate(row) for row in rows)


def parse_variants(text: str) -> dict[str, bool]:
    """`+hdf5 ~restd` as {"hdf5": True, "restd": False}; `-restd` is read like `~restd`.

    Raises:
        ConfigurationError: A word is not a variant; it never reaches a shell.
    """
    wanted: dict[str, bool] = {}
    for word in re.sub(r"(?<=[a-z0-9_])(?=[+~])", " ", text).split():
        match = VARIANT_PATTERN.fullmatch(word)
        if match is None:
            raise ConfigurationError(
                f"--additional-variants: {quoted(word)} is not a variant.",
                details="A variant is + or ~ and a name, such as +hdf5 or ~restd.",
                resolution='Separate several by spaces and quote the whole: "+hdf5 ~restd".',
            )
        name, on = match["name"], match["sign"] == "+"
        if wanted.setdefault(name, on) != on:
            raise ConfigurationError(
                f"--additional-variants: {name} is both enabled and disabled.",
                resolution=f"Remove either +{name} or ~{name}.",
            )
    return wanted


def select(
    build_type: BuildType,
    variants: Mapping[str, bool],
    release: Release,
    base: Base,
    recipe: Deps,
    architecture: str,
    *,
    cross: bool = False,
) -> Selection:
    """Select the rows of the table for a package.

    Args:
        build_type: How much the package contains.
        variants: What the user has switched on or off, by name.
        release: The release.
        base: The distribution to build on.
        recipe: The recipe.
        architecture: Architecture of the package, as uname(1) names it.
        cross: Whether the machine is of another one.

    Raises:
        ConfigurationError: A variant is unknown, or not available for this plan.
    """
    plan = (release, base, recipe, architecture)
    usable = (f for f in table() if not f.why_not(*plan, cross=cross))
    _refuse_unknown(variants, [f.variant for f in usable if f.variant])
    chosen: list[Feature] = []
    left_out: list[Feature] = []
    unavailable: dict[str, str] = {}
    for feature in table():
        reason = feature.why_not(*plan, cross=cross)
        wanted = variants.get(feature.variant) if feature.variant else None
        if wanted and reason:
            raise ConfigurationError(
                f"+{feature.variant} is not available with --deps {recipe} on {base.name}"
                f" for {architecture}.",
                details=reason[0].upper() + reason[1:] + ".",
                resolution=f"Remove +{feature.variant}.",
            )
        default = build_type in feature.types
        if reason and default:
            unavailable[feature.name] = reason
        is_in = not reason and (default if wanted is None else wanted)
        (chosen if is_in else left_out).append(feature)
    _require_needed(chosen)
    return Selection(tuple(chosen), tuple(left_out), unavailable)


def without_defaults(variants: Mapping[str, bool], build_type: BuildType) -> dict[str, bool]:
    """Only the variants that differ from the build type."""
    contained = {feature.variant for feature in table() if build_type in feature.types}
    return {name: on for name, on in variants.items() if on != (name in contained)}


def packages_for(base: Base, architecture: str, *, cross: bool = False) -> tuple[str, ...]:
    """Packages of libraries that the features need: one base serves all build types and variants.

    Args:
        base: The distribution.
        architecture: Architecture of the packages to build, as uname(1) names it.
        cross: Whether the machine is of another one.
    """
    features = _features_of(base, architecture, cross=cross)
    return tuple(sorted({name for feature in features for name in feature.packages}))


def programs_for(base: Base, architecture: str, *, cross: bool = False) -> tuple[str, ...]:
    """Packages with programs that become a part of what is built; see `packages_for`."""
    features = _features_of(base, architecture, cross=cross)
    return tuple(sorted({name for feature in features for name in feature.programs}))


def _features_of(base: Base, architecture: str, *, cross: bool) -> list[Feature]:
    def lacks(cell: Empty) -> bool:
        named = base.name in cell.bases or architecture in cell.architectures
        return named or (cross and cell.cross)

    return [feature for feature in table() if not any(map(lacks, feature.empty))]


def _require_needed(chosen: Sequence[Feature]) -> None:
    names = {feature.name for feature in chosen}
    for feature in chosen:
        if feature.needs and feature.needs not in names:
            raise ConfigurationError(
                f"+{feature.variant} needs +{feature.needs}.",
                details=f"It is for {feature.summary}.",
                resolution=f"Add +{feature.needs}, or remove +{feature.variant}.",
            )


def _refuse_unknown(variants: Mapping[str, bool], usable: Sequence[str]) -> None:
    known = [feature.variant for feature in table() if feature.variant]
    fixed = {feature.name: feature for feature in table() if not feature.variant}
    for name in variants:
        if name in fixed:
            raise ConfigurationError(
                f"--additional-variants: {name} is not an optional feature.",
                details=_where_contained(fixed[name]),
                resolution=f"Remove +{name} or ~{name}.",
            )
        if name not in known:
            _refuse_absent(name)
            # Suggest only available variants that are not in the request already.
            free = [other for other in usable if other not in variants]
            raise ConfigurationError(
                f"--additional-variants: there is no variant {quoted(name)}.",
                details=did_you_mean(name, free, f"Available: {', '.join(free)}."),
                resolution="docs/options.md lists all variants.",
            )


def _refuse_absent(name: str) -> None:
    """Say of a plugin that no package has, by the end of its name, why that is so."""
    for absence in known_absences():
        found = [plugin for plugin in absence.plugins if f"_{plugin}".endswith(f"_{name}")]
        if found and not absence.one_of_them:
            raise ConfigurationError(
                f"--additional-variants: no package has {found[0]}.",
                details=absence.reason,
                resolution=f"Remove {name}; docs/limits.md lists the plugins that no package has.",
            )


def _where_contained(feature: Feature) -> str:
    if {*feature.types} == {*BuildType}:
        return f"Every package contains {feature.name}: you cannot remove it."
    cells = "".join(
        f", but not with --deps {cell.recipe}: {cell.reason}"
        for cell in feature.empty
        if cell.recipe
    )
    return f"It comes with the build types {' and '.join(feature.types)}{cells}."
