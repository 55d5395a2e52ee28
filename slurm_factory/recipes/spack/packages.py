"""Spack's own description of the packages of a project: license, home page, sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from slurm_factory.exceptions import SpackError
from slurm_factory.fetch.sources import Source, cached
from slurm_factory.util.documents import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable

SCRIPT = "spack-packages.py"
"""What Spack runs to describe them (resources/scripts)."""
MARK = "slurm-factory-package "
PROTOCOLS = ("https://", "http://", "file://")
PUBLIC_MIRROR = "https://mirror.spack.io"
"""Spack's own (etc/spack/defaults/base/mirrors.yaml), tried last."""


@dataclass(frozen=True)
class PackageSource:
    """A source of one package: its archive, a resource, or a patch.

    Attributes:
        hash: Spack's, of the package.
        label: Name and version of the package.
        stored_as: Path below a source mirror of Spack.
        source: None for a commit of a repository, which has no checksum: only Spack can make its
            archive.
    """

    hash: str
    label: str
    stored_as: PurePosixPath
    source: Source | None

    def find(self, cache: Path) -> Path | None:
        """Its file in the source cache (host); None if there is none, or a damaged one."""
        if self.source:
            return cached(self.source, cache)
        path = cache / self.stored_as
        return path if path.is_file() else None


@dataclass(frozen=True)
class PackageDescription:
    """A package that Spack installs.

    Attributes:
        hash: Spack's.
        name: Name of the package.
        version: In Spack's notation.
        licenses: SPDX expressions.
        homepage: Empty where the package recipe names none.
        sources: The archive comes first; empty where the package has no code.
    """

    hash: str
    name: str
    version: str
    licenses: tuple[str, ...] = ()
    homepage: str = ""
    sources: tuple[PackageSource, ...] = ()


def read_descriptions(output: Iterable[str]) -> dict[str, PackageDescription]:
    """The packages in the output of spack-packages.py by hash, in Spack's order.

    Raises:
        SpackError: It has a form that this program cannot read.
    """
    try:
        packages = [parse(line) for line in output if line.startswith(MARK)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpackError(
            "Spack's description of its packages cannot be read.",
            details=str(error),
            resolution="Report this with the build log.",
        ) from error
    return {package.hash: package for package in packages}


def parse(line: str) -> PackageDescription:
    """One line of spack-packages.py.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: It does not have that form.
    """
    row = parse_json(line.removeprefix(MARK))
    return PackageDescription(
        hash=row["hash"],
        name=row["name"],
        version=row["version"],
        licenses=tuple(map(str, row["licenses"])),
        homepage=str(row["homepage"]),
        sources=tuple(_source(row, each) for each in row["sources"]),
    )


def _source(package: dict[str, Any], row: dict[str, Any]) -> PackageSource:
    stored_as, digest = PurePosixPath(row["stored_as"]), row["sha256"]
    if stored_as.is_absolute() or ".." in stored_as.parts:
        raise ValueError(f"{stored_as} is outside the source cache")
    label = f"{package['name']} {package['version']}"
    if digest is None:
        return PackageSource(package["hash"], label, stored_as, None)
    if not digest.isalnum():
        raise ValueError(f"{digest!r} is not a checksum")
    urls = (url for url in row["urls"] if url.startswith(PROTOCOLS))
    source = Source(
        name=label,
        sha256=digest,
        size=None,
        urls=(*dict.fromkeys(urls), f"{PUBLIC_MIRROR}/{stored_as}"),
        extension=stored_as.name.removeprefix(digest),
    )
    return PackageSource(package["hash"], label, stored_as, source)
