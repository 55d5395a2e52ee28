"""The cells of a matrix: which builds it consists of. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import product
from typing import TYPE_CHECKING

from slurm_factory.constants import DEFAULT_BASE, DEFAULT_DEPS, BuildType
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.releases import series
from slurm_factory.util.hints import did_you_mean, printable, quoted

if TYPE_CHECKING:
    from slurm_factory.plan.plan import BuildPlan
    from slurm_factory.plan.releases import Release
    from slurm_factory.request import BuildOptions

ALL = "all"
"""In place of a series: every one of the catalog."""
TYPES = tuple(str(each) for each in BuildType)


@dataclass(frozen=True)
class Axes:
    """The values whose product are cells, and what is not built of it.

    Attributes:
        series: Series, releases, `latest` or `all`.
        types: Build types.
        bases: Distributions.
        deps: Recipes.
        archs: Architectures; empty text: that of this machine.
        exclude: Patterns of cells.
    """

    series: tuple[str, ...] = ()
    types: tuple[str, ...] = (str(BuildType.STANDARD),)
    bases: tuple[str, ...] = (DEFAULT_BASE,)
    deps: tuple[str, ...] = (str(DEFAULT_DEPS),)
    archs: tuple[str, ...] = ("",)
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatrixSpec:
    """What somebody asks for: a product, and whole cells beside it."""

    axes: Axes = field(default_factory=Axes)
    cells: tuple[BuildOptions, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One build of a matrix."""

    options: BuildOptions
    plan: BuildPlan

    @property
    def name(self) -> str:
        """Common prefix of the files of its package, which no other cell has."""
        return self.plan.stem


def find_cells(
    spec: MatrixSpec,
    common: BuildOptions,
    plan: Callable[[BuildOptions], BuildPlan],
    catalog: Sequence[Release] = (),
) -> tuple[Cell, ...]:
    """All cells in the order of the request; of several that make the same package, the first.

    Args:
        spec: What was asked for.
        common: Options that every cell of the product has.
        plan: Makes the plan of a build.
        catalog: The releases to choose from; empty: those of the shipped catalog.

    Raises:
        ConfigurationError: There is no cell, a pattern excludes none, or one cannot be planned.
    """
    cells: dict[str, Cell] = {}
    listed = [*_of_product(spec.axes, common, catalog)]
    for number, options in enumerate((*listed, *spec.cells)):
        cell = Cell(options, _planned(options, plan, excludable=number < len(listed)))
        cells.setdefault(cell.name, cell)
    if not cells:
        raise ConfigurationError(
            "The matrix has no cells.",
            details="Its patterns exclude all of them."
            if spec.axes.series
            else "Neither --series nor a file names any.",
            resolution="Write --series 25.05,25.11, for example, or name a file with cells.",
        )
    return tuple(cells.values())


def describe(options: BuildOptions) -> str:
    """A cell in the words of a pattern, such as `25.05 gpu debian@12 spack`."""
    words = (options.slurm_version, type_of(options), options.base, options.deps, options.arch)
    return " ".join(word for word in words if word)


def type_of(options: BuildOptions) -> str:
    """The build type."""
    if options.gpu:
        return BuildType.GPU
    return BuildType.MINIMAL if options.minimal else BuildType.STANDARD


def _of_product(
    axes: Axes, common: BuildOptions, catalog: Sequence[Release]
) -> Iterator[BuildOptions]:
    for name in axes.types:
        if name not in TYPES:
            raise ConfigurationError(
                f"--type: there is no build type {quoted(name)}.",
                details=did_you_mean(name, TYPES, "Its name is unknown."),
                resolution=f"Write {', '.join(TYPES)}, or some of them.",
            )
    asked = [name for each in axes.series for name in _series(each, catalog)]
    every = [
        replace(
            common,
            slurm_version=version,
            gpu=kind == BuildType.GPU,
            minimal=kind == BuildType.MINIMAL,
            base=base,
            deps=deps,
            arch=arch,
        )
        for version, kind, base, deps, arch in product(
            asked, axes.types, axes.bases, axes.deps, axes.archs
        )
    ]
    for pattern in axes.exclude:
        _require_match(pattern, every)
    for options in every:
        if not any(_excludes(pattern, options) for pattern in axes.exclude):
            yield options


def _series(name: str, catalog: Sequence[Release]) -> tuple[str, ...]:
    return series(catalog) if name == ALL else (name,)


def _planned(
    options: BuildOptions, plan: Callable[[BuildOptions], BuildPlan], *, excludable: bool
) -> BuildPlan:
    try:
        return plan(options)
    except ConfigurationError as error:
        way = f"leave the cell out: --exclude {shlex.quote(describe(options))}"
        if not excludable:
            way = "remove the cell from the file."
        raise ConfigurationError(
            f"The cell {printable(describe(options))}: {error.brief}",
            details=error.details,
            resolution=f"{error.resolution} Or {way}",
        ) from error


def _words_of(options: BuildOptions) -> tuple[str, ...]:
    """All that a word of a pattern may name."""
    version = options.slurm_version
    series_of = ".".join(version.split(".")[:2])
    return (*(version, series_of, type_of(options)), options.base, options.deps, options.arch)


def _excludes(pattern: str, options: BuildOptions) -> bool:
    known = _words_of(options)
    return all(any(fnmatchcase(each, word) for each in known) for word in pattern.split())


def _require_match(pattern: str, every: Sequence[BuildOptions]) -> None:
    if pattern.split() and any(_excludes(pattern, options) for options in every):
        return
    known = dict.fromkeys(word for options in every for word in _words_of(options) if word)
    strange = [
        word for word in pattern.split() if not any(fnmatchcase(each, word) for each in known)
    ]
    why = "No cell has all of its words."
    if strange:
        why = did_you_mean(strange[0], known, f"No cell has {quoted(strange[0])}.")
    raise ConfigurationError(
        f"--exclude {quoted(pattern)} leaves no cell out.",
        details=why,
        resolution="Correct the pattern, or omit it; `slurm-factory matrix … --dry-run` shows the"
        " cells.",
    )
