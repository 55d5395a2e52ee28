"""The result of a recipe, for packaging.

Packaging defines here what it needs, and the recipes above it return it: so packaging does not
depend on recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, Protocol

from slurm_factory.relocate.closure import LibrarySource

if TYPE_CHECKING:
    from slurm_factory.package.manifest import SpackBuild


@dataclass(frozen=True)
class Package:
    """The package of a file, as advisories name it."""

    name: str
    version: str
    architecture: str
    source: str
    kind: Literal["deb", "generic"] = "deb"
    """Type of a package URL; `generic` for packages that Spack built."""
    spack_hash: str | None = None


class Libraries(LibrarySource, Protocol):
    """A source of libraries, with their packages."""

    packages: dict[str, Package]
    """Packages with fetched files, by name."""

    def fetch_common_licenses(self) -> Path:
        """The license texts that copyright files refer to, in a directory on the host."""
        ...


@dataclass(frozen=True)
class Built:
    """The result of a recipe.

    Attributes:
        tree: Installed and stripped (host), not yet relocated; packaging changes it in place.
        libraries: The source of the libraries that the tree needs.
        installed: The package of each ELF file of the tree that does not belong to Slurm, by path.
        build_paths: Paths (instance) that the package must not contain, in addition to those of
            every build.
        configure: Arguments of Slurm's configure.
        spack: The record of Spack; None without Spack.
    """

    tree: Path
    libraries: Libraries
    installed: Mapping[PurePosixPath, Package]
    build_paths: tuple[str, ...]
    configure: tuple[str, ...]
    spack: SpackBuild | None = None
