"""Makes one tree of Spack's prefixes, and describes the packages in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from slurm_factory.exceptions import BuildError, SpackError
from slurm_factory.package.licenses import LICENSES
from slurm_factory.recipes.distro_libraries import path_below, table
from slurm_factory.recipes.feature_checks import check_config_h, require_files
from slurm_factory.recipes.spack.licenses import LicenseFinder
from slurm_factory.recipes.spack.packages import PackageDescription
from slurm_factory.relocate.tree import make_room
from slurm_factory.util.documents import parse_json
from slurm_factory.util.tar_stream import refused

if TYPE_CHECKING:
    from slurm_factory.recipes.spack.lock import Lock, Node
    from slurm_factory.recipes.spack.session import Spack

PARTS = {
    "slurm": (
        *("bin", "sbin", "lib", "include"),
        *("share/man", "share/licenses/slurm", "share/bash-completion"),
    ),
    "munge": ("bin/munge", "bin/remunge", "bin/unmunge", "sbin/munged", "sbin/mungekey"),
    "openmpi": ("bin", "lib", "include", "share/openmpi", "share/prte", "share/man"),
}
"""Parts of packages in the tree; of other packages only the required libraries."""
C_LIBRARIES = frozenset({"glibc", "musl"})
"""Spack itself makes the C library an external."""


@dataclass(frozen=True)
class RunTimePackage:
    """A package that the tree may need.

    Attributes:
        name: Name of Spack's package.
        version: In Spack's notation.
        hash: Spack's hash of it with all its dependencies.
        prefix: Prefix in the instance.
        external: Whether it is an external of the user's own configuration.
        licenses: The file with its license texts (host); none for externals.
    """

    name: str
    version: str
    hash: str
    prefix: str
    external: bool
    licenses: tuple[Path, ...] = ()

    @property
    def release(self) -> str:
        """The usual version: Spack writes git.<commit>=<release> for a commit."""
        return self.version.rpartition("=")[2]


@dataclass(frozen=True)
class Collected:
    """The tree of a package and its description.

    Attributes:
        tree: Stripped and not yet relocated (host).
        packages: Packages that the tree may need, nearest to Slurm first.
        owners: Package of each file that does not belong to Slurm, by path in the tree.
        configure: Arguments of Slurm's configure; empty if its package recipe did not archive them.
    """

    tree: Path
    packages: tuple[RunTimePackage, ...]
    owners: dict[PurePosixPath, str]
    configure: tuple[str, ...]


def collect(spack: Spack, lock: Lock) -> Collected:
    """Make the tree of a package from Spack's installation.

    Raises:
        BuildError: A required feature is missing.
        SpackError: Spack's database does not list a package.
    """
    packages = _run_time_packages(spack, lock)
    about = _fetch_about(spack, packages)
    about_slurm = about / _slurm(packages).hash
    tree, owners = _copy_parts(spack, packages)
    packages = _with_licenses(spack, packages, about)
    _add_licenses(packages, tree)
    _check_features(spack, about_slurm, tree)
    arguments = about_slurm / "archived-files" / "configure-arguments"
    return Collected(tree, packages, owners, tuple(_lines(arguments)))


def _slurm(packages: tuple[RunTimePackage, ...]) -> RunTimePackage:
    return next(package for package in packages if package.name == "slurm")


def _run_time_packages(spack: Spack, lock: Lock) -> tuple[RunTimePackage, ...]:
    database = spack.instance.take_file(spack.paths.store / ".spack-db/index.json")
    try:
        installs = parse_json(database)["database"]["installs"]
    except (KeyError, TypeError, ValueError) as error:
        raise SpackError(
            "Spack's list of what it has installed cannot be read.",
            details=str(error),
            resolution="Report this with the build log.",
        ) from error
    record = spack.instance.record.get("externals", {})
    tools = C_LIBRARIES | {*record.get("packages", {})}
    return tuple(
        RunTimePackage(
            node.name,
            node.version,
            node.hash,
            str(node.external or _prefix(node, installs)),
            external=node.external is not None,
        )
        for node in lock.run_time
        if node.external is None or node.name not in tools
    )


def _prefix(node: Node, installs: dict[str, Any]) -> str:
    try:
        prefix = str(installs[node.hash]["path"])
    except (KeyError, TypeError) as error:
        raise SpackError(
            f"Spack did not install {node.label}.",
            details="Its database has no such package, although `spack install` succeeded.",
            resolution="Report this with the build log.",
        ) from error
    if not prefix.isprintable() or "|" in prefix:
        raise refused(f"The prefix of {node.label} is impossible.")
    return prefix


def _fetch_about(spack: Spack, packages: tuple[RunTimePackage, ...]) -> Path:
    lines = (f"{p.name}|{p.hash}|{p.prefix}" for p in packages if not p.external)
    return spack.fill("spack-about", "spack-about.sh", {"PACKAGES": "\n".join(lines)})


def _copy_parts(
    spack: Spack, packages: tuple[RunTimePackage, ...]
) -> tuple[Path, dict[PurePosixPath, str]]:
    """The tree with the parts of packages, stripped, and the package of each file in it that does
    not belong to Slurm."""
    instance = spack.instance
    made, installed = instance.build_dir / "tree", instance.build_dir / "spack-installed.tsv"
    parts = [
        f"{package.name}|{package.prefix}|{part}"
        for package in packages
        if not package.external
        for part in PARTS.get(package.name, ())
    ]
    spack.run_script(
        "spack-collect.sh",
        {
            "PARTS": "\n".join(parts),
            "TREE": str(made),
            "INSTALLED": str(installed),
        },
    )
    spack.run_script("strip-tree.sh", {"TREE": str(made)})
    tree = spack.work / "software"
    instance.take_directory(made, tree, links=True)
    names = {package.name for package in packages if not package.external}
    rows = table(instance.take_file(installed), 2)
    owners = {path_below(path): package for path, package in rows}
    if not names.issuperset(owners.values()):
        raise refused("A list of its files names packages that are not in the lock.")
    return tree, owners


def _with_licenses(
    spack: Spack, packages: tuple[RunTimePackage, ...], about: Path
) -> tuple[RunTimePackage, ...]:
    settings = spack.job.settings
    finder = LicenseFinder(settings.source_cache_dir, settings.spack_misc_dir / "license-texts")

    def with_license(package: RunTimePackage) -> RunTimePackage:
        shipped = [p for p in (about / package.hash / "licenses").rglob("*") if p.is_file()]
        license_file = about / package.hash / "license"
        undescribed = PackageDescription(package.hash, package.name, package.version)
        description = spack.packages.get(package.hash, undescribed)
        license_file.write_text(finder.text(description, shipped), "utf-8")
        return replace(package, licenses=(license_file,))

    return tuple(package if package.external else with_license(package) for package in packages)


def _add_licenses(packages: tuple[RunTimePackage, ...], tree: Path) -> None:
    """Add license texts for files in the tree itself; relocation adds those of bundled
    libraries."""
    for package in packages:
        if package.name in PARTS and package.name != "slurm" and package.licenses:
            target = make_room(tree, LICENSES / package.name / "copyright")
            target.write_bytes(package.licenses[0].read_bytes())


def _check_features(spack: Spack, about_slurm: Path, tree: Path) -> None:
    archived = about_slurm / "archived-files"
    config_h = next(iter(sorted(archived.rglob("config.h"))), None)
    if config_h is None:
        raise BuildError(
            "The outcome of Slurm's configure is unknown.",
            details="The package recipe archived no config.h.",
            resolution="Report this with the build log.",
        )
    log = next(iter(sorted(archived.rglob("config.log"))), None)
    selection = spack.job.plan.selection
    # Unlike the output, the log has the line numbers of configure.
    lines = [re.sub(r"^configure:\d+:", "configure:", line) for line in _lines(log)]
    check_config_h(selection.defines, _lines(config_h), lines)
    require_files(selection.files, tree)


def _lines(path: Path | None) -> list[str]:
    if path is None or not path.exists():
        return []
    return path.read_text("utf-8", errors="replace").splitlines()
