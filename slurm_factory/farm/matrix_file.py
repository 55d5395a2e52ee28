"""A matrix in a TOML file, which a site keeps in a repository."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from slurm_factory.config_types import in_words
from slurm_factory.constants import DEFAULT_BASE, DEFAULT_DEPS, BuildType
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.farm.cells import Axes, MatrixSpec
from slurm_factory.request import BuildOptions
from slurm_factory.util.documents import read_text
from slurm_factory.util.hints import did_you_mean, printable, quoted


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""A list of texts; one text is a list of one."""


class _Table(BaseModel):
    """Rejects unknown keys; keys have the names of the options."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_kebab, strict=False)


class CellTable(_Table):
    """A whole cell: `[[cell]]`."""

    slurm_version: str = ""
    type: BuildType = BuildType.STANDARD
    base: str = DEFAULT_BASE
    deps: str = str(DEFAULT_DEPS)
    arch: str = ""
    glibc: str = ""
    additional_variants: str = ""
    source: str = ""
    sha256: str = ""
    patch: Names = ()
    suffix: str = ""
    backports: bool = True


class MatrixTable(_Table):
    """The file."""

    series: Names = ()
    type: Names = Axes.types
    base: Names = Axes.bases
    deps: Names = Axes.deps
    arch: Names = Axes.archs
    exclude: Names = ()
    cell: tuple[CellTable, ...] = ()


def read_matrix(path: Path) -> MatrixSpec:
    """The matrix in a file (host). Relative paths in it begin at its directory.

    Raises:
        ConfigurationError: It cannot be read, is no TOML, or has an unknown key or a wrong value.
    """
    try:
        table = tomllib.loads(read_text(path))
        found = MatrixTable.model_validate(table)
    except OSError as error:
        raise _unusable(path, f"{error.strerror or error}.") from error
    except ValidationError as error:
        raise _unusable(path, _reason(error)) from error
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"It is no TOML: {error}.") from error
    axes = Axes(found.series, found.type, found.base, found.deps, found.arch, found.exclude)
    return MatrixSpec(axes, tuple(_options(cell, path.parent) for cell in found.cell))


def _options(cell: CellTable, directory: Path) -> BuildOptions:
    return BuildOptions(
        slurm_version=cell.slurm_version,
        source=_located(cell.source, directory),
        sha256=cell.sha256,
        gpu=cell.type is BuildType.GPU,
        minimal=cell.type is BuildType.MINIMAL,
        additional_variants=cell.additional_variants,
        deps=cell.deps,
        base=cell.base,
        glibc=cell.glibc,
        arch=cell.arch,
        backports=cell.backports,
        patches=tuple(directory / name for name in cell.patch),
        suffix=cell.suffix,
    )


def with_options(spec: MatrixSpec, **given: Iterable[str] | None) -> MatrixSpec:
    """A matrix with lists of the command line in place of its own; patterns are added.

    Args:
        spec: The matrix of a file, or none.
        given: By the names of the fields of Axes; None: not given.
    """
    lists = {name: tuple(values) for name, values in given.items() if values is not None}
    lists["exclude"] = (*spec.axes.exclude, *lists.get("exclude", ()))
    return replace(spec, axes=replace(spec.axes, **lists))


def _located(source: str, directory: Path) -> str:
    """A source with its path from the root; URLs stay as they are."""
    return source if not source or "://" in source else str(directory / source)


def _unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The matrix {path} cannot be used.",
        details=why,
        resolution="Correct the file; docs/matrix.md shows its keys.",
    )


def _reason(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        table = CellTable if where[0] == "cell" else MatrixTable
        known = [_kebab(name) for name in table.model_fields]
        hint = did_you_mean(where[-1], known, f"There are {', '.join(known)}.")
        return f"{_place(where)} is no key. {hint}"
    return f"{_place(where)} is {quoted(first.get('input'))}. {in_words(error)}"


def _place(where: list[str]) -> str:
    """Such as `base`, or `base of cell 2`."""
    if where[0] == "cell" and len(where) > 2:  # noqa: PLR2004
        return f"{printable(where[2])} of cell {int(where[1]) + 1}"
    return printable(where[0])
