"""The libraries of a Spack build, for `relocate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.package.built import Package
from slurm_factory.recipes.distro_libraries import InstanceLibraries, one_of, regular, table
from slurm_factory.relocate.closure import Directory, Library
from slurm_factory.relocate.elf import read_elf
from slurm_factory.util.hints import printable
from slurm_factory.util.tar_stream import refused

if TYPE_CHECKING:
    from slurm_factory.recipes.spack.session import Spack
    from slurm_factory.recipes.spack.tree import Collected, RunTimePackage

USR = "/usr/"
"""Prefix of the policy's globs of plugin directories; Spack's prefixes have the same layout."""


@dataclass
class SpackLibraries:
    """Fetches libraries from Spack's prefixes, and from the base if an external allows it.

    Packages of Spack come first. A library of the base is used only if the user's own configuration
    has a run-time library as an external there; otherwise a configure script has found it by
    accident.
    """

    spack: Spack
    known: Sequence[RunTimePackage]
    """Packages that the tree may need, nearest to Slurm first."""
    packages: dict[str, Package] = field(default_factory=dict)
    """Packages with fetched files, by name."""
    folders: int = field(default=0)

    @cached_property
    def base(self) -> InstanceLibraries:
        """The libraries of the distribution; shares the list of packages."""
        return InstanceLibraries(self.spack.job, self.spack.instance, self.packages)

    def fetch(self, sonames: Sequence[str]) -> dict[str, Library]:
        """Copies of the existing libraries, by soname."""
        out = self._fill("spack-fetch-libraries.sh", {"SONAMES": "\n".join(sonames)})
        rows = table(regular(out / "libraries.tsv").read_bytes(), 3)
        found = {row[0]: self._library(out, *one_of(row, sonames)) for row in rows}
        rest = [soname for soname in sonames if soname not in found]
        return found | self._of_base(rest)

    def fetch_directory(self, patterns: Sequence[str]) -> Directory | None:
        """A copy of the first directory that matches one of the globs, if any."""
        below = [p.removeprefix(USR) for p in patterns if p.startswith(USR)]
        out = self._fill("spack-fetch-directory.sh", {"PATTERNS": "\n".join(below)})
        if not (out / "directory.tsv").exists():
            return self._directory_of_base(patterns)
        [(prefix, origin)] = table((out / "directory.tsv").read_bytes(), 2, rows=1)
        built = self._package_in(prefix)
        self._note(built)
        return Directory(
            path=out / "content",
            origin=PurePosixPath(origin),
            package=built.name,
            version=built.release,
            licenses=built.licenses,
        )

    def fetch_common_licenses(self) -> Path:
        """The license texts that copyright files of the base refer to, in a directory on the
        host."""
        return self.base.fetch_common_licenses()

    @cached_property
    def _built(self) -> dict[str, RunTimePackage]:
        """Spack's packages, by prefix."""
        return {package.prefix: package for package in self.known if not package.external}

    def _of_base(self, sonames: Sequence[str]) -> dict[str, Library]:
        found = self.base.fetch(sonames) if sonames and self._explained else {}
        return {
            soname: library for soname, library in found.items() if self._explains(library.origin)
        }

    def _directory_of_base(self, patterns: Sequence[str]) -> Directory | None:
        """Only of a package with a bundled library: others are there by accident."""
        known = {*self.packages}
        found = self.base.fetch_directory(patterns) if self._explained else None
        return found if found and found.package in known else None

    @property
    def _explained(self) -> list[PurePosixPath]:
        return [PurePosixPath(p.prefix) for p in self.known if p.external]

    def _explains(self, origin: PurePosixPath) -> bool:
        usr_merged = PurePosixPath(USR, *origin.parts[1:])
        return any(
            path.is_relative_to(prefix)
            for prefix in self._explained
            for path in (origin, usr_merged)
        )

    def _library(self, out: Path, soname: str, prefix: str, origin: str) -> Library:
        built = self._package_in(prefix)
        self._note(built)
        return Library(
            soname=soname,
            path=regular(out / "lib" / soname),
            origin=PurePosixPath(origin),
            package=built.name,
            version=built.release,
            licenses=built.licenses,
        )

    def _note(self, built: RunTimePackage) -> Package:
        return self.packages.setdefault(built.name, _package(built, self.spack))

    def _package_in(self, prefix: str) -> RunTimePackage:
        if prefix not in self._built:
            raise refused(f"A list names a prefix of no package: {printable(prefix)}.")
        return self._built[prefix]

    def _fill(self, script: str, parameters: dict[str, str]) -> Path:
        self.folders += 1
        parameters = {**parameters, "PREFIXES": "\n".join(self._built)}
        return self.spack.fill(f"spack-libraries-{self.folders}", script, parameters)


def installed_packages(spack: Spack, collected: Collected) -> dict[PurePosixPath, Package]:
    """The package of each ELF file in the tree itself that does not belong to Slurm."""
    by_name = {built.name: built for built in collected.packages if not built.external}
    return {
        path: _package(by_name[name], spack)
        for path, name in collected.owners.items()
        if (collected.tree / path).is_file() and read_elf(collected.tree / path)
    }


def _package(built: RunTimePackage, spack: Spack) -> Package:
    return Package(
        built.name,
        built.release,
        spack.choice.target,
        built.name,
        kind="generic",
        spack_hash=built.hash,
    )
