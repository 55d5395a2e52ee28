"""What a recipe hands to packaging.

Packaging says here what it needs, and the recipes, which lie above it, return it: so it knows
neither of them.
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
    """A package that a file was taken from, as advisories know it."""

    name: str
    version: str
    architecture: str
    source: str
    kind: Literal["deb", "generic"] = "deb"
    """As package URLs name it; what Spack built is `generic`."""
    spack_hash: str | None = None


class Libraries(LibrarySource, Protocol):
    """Where libraries come from, with the packages that they belong to."""

    packages: dict[str, Package]
    """Packages that something was fetched from, by name."""

    def fetch_common_licenses(self) -> Path:
        """The texts that copyright files name, in a directory on the host."""
        ...


@dataclass(frozen=True)
class Built:
    """What a recipe made.

    Attributes:
        tree: Installed and stripped (host), not yet relocated; packaging changes it in place.
        libraries: Where the libraries that the tree needs come from.
        installed: The package of each ELF file of the tree that is not Slurm's, by path in it.
        build_paths: Paths (instance) that must not be left in the package, beside those that every
            build has.
        configure: Arguments of Slurm's configure.
        spack: What Spack did; None where it did nothing.
    """

    tree: Path
    libraries: Libraries
    installed: Mapping[PurePosixPath, Package]
    build_paths: tuple[str, ...]
    configure: tuple[str, ...]
    spack: SpackBuild | None = None
