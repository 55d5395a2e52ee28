"""The result of a recipe, for packaging.

Packaging defines here what it needs, and the recipes above it return it: so packaging does not
depend on recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from slurm_factory.relocate.closure import Closure

if TYPE_CHECKING:
    from slurm_factory.package.manifest import AppliedPatch, SpackBuild


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


@dataclass(frozen=True)
class Built:
    """The result of a recipe: all on the host, and complete, so that the instance can go.

    Attributes:
        tree: Installed and stripped (host), not yet relocated; packaging changes it in place.
        closure: The libraries that the tree needs and lacks.
        packages: Packages of files of the closure, by name.
        common_licenses: Directory (host) with the license texts that copyright files refer to.
        installed: The package of each ELF file of the tree that does not belong to Slurm, by path.
        build_paths: Paths (instance) that the package must not contain, in addition to those of
            every build.
        configure: Arguments of Slurm's configure.
        spack: The record of Spack; None without Spack.
        patches: The patches of Slurm's source, in order.
    """

    tree: Path
    closure: Closure
    packages: Mapping[str, Package]
    common_licenses: Path
    installed: Mapping[PurePosixPath, Package]
    build_paths: tuple[str, ...]
    configure: tuple[str, ...]
    spack: SpackBuild | None = None
    patches: tuple[AppliedPatch, ...] = ()
