"""The libraries of a Spack build, as `relocate` wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.package.built import Package
from slurm_factory.recipes.distro_libraries import InstanceLibraries, read_rows
from slurm_factory.relocate.closure import Directory, Library
from slurm_factory.relocate.elf import read_elf

if TYPE_CHECKING:
    from slurm_factory.recipes.spack.session import Spack
    from slurm_factory.recipes.spack.tree import Collected, RunTimePackage

USR = "/usr/"
"""Start of the policy's globs of plugin directories; prefixes of Spack are laid out alike."""


@dataclass
class SpackLibraries:
    """Fetches libraries out of Spack's prefixes, and out of the base where an external explains it.

    What Spack built comes first. A library of the base is taken only if the user's own
    configuration has made a run-time library an external there; else it would be one that a
    configure script has found by accident.
    """

    spack: Spack
    known: Sequence[RunTimePackage]
    """What the tree may need, nearest to Slurm first."""
    packages: dict[str, Package] = field(default_factory=dict)
    """Packages that something was fetched from, by name."""
    folders: int = field(default=0)

    @cached_property
    def base(self) -> InstanceLibraries:
        """The libraries of the distribution; shares the list of packages."""
        return InstanceLibraries(self.spack.job, self.spack.instance, self.packages)

    def fetch(self, sonames: Sequence[str]) -> dict[str, Library]:
        """Copies of the libraries that are there, by soname; others are left out."""
        out = self._new_folder()
        self.spack.instance.run_script(
            "spack-fetch-libraries.sh",
            {
                "PREFIXES": "\n".join(self._built),
                "SONAMES": "\n".join(sonames),
                "OUT": self.spack.instance.inside(out),
            },
            self.spack.job.reporter.line,
        )
        rows = read_rows(out / "libraries.tsv")
        found = {row[0]: self._library(out / "lib" / row[0], *row) for row in rows}
        rest = [soname for soname in sonames if soname not in found]
        return found | self._of_base(rest)

    def fetch_directory(self, patterns: Sequence[str]) -> Directory | None:
        """A copy of the first directory that matches one of the globs, if one does."""
        out = self._new_folder()
        below = [p.removeprefix(USR) for p in patterns if p.startswith(USR)]
        self.spack.instance.run_script(
            "spack-fetch-directory.sh",
            {
                "PREFIXES": "\n".join(self._built),
                "PATTERNS": "\n".join(below),
                "OUT": self.spack.instance.inside(out),
            },
            self.spack.job.reporter.line,
        )
        if not (out / "directory.tsv").exists():
            return self._directory_of_base(patterns)
        [(prefix, origin)] = read_rows(out / "directory.tsv")
        built = self._built[prefix]
        self._note(built)
        return Directory(
            path=out / "content",
            origin=PurePosixPath(origin),
            package=built.name,
            version=built.release,
            licenses=built.licenses,
        )

    def fetch_common_licenses(self) -> Path:
        """The texts that copyright files of the base name, in a directory on the host."""
        return self.base.fetch_common_licenses()

    @cached_property
    def _built(self) -> dict[str, RunTimePackage]:
        """What Spack built, by prefix."""
        return {package.prefix: package for package in self.known if not package.external}

    def _of_base(self, sonames: Sequence[str]) -> dict[str, Library]:
        found = self.base.fetch(sonames) if sonames and self._explained else {}
        return {
            soname: library for soname, library in found.items() if self._explains(library.origin)
        }

    def _directory_of_base(self, patterns: Sequence[str]) -> Directory | None:
        """Only of a package that has given a library: others are there by accident."""
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

    def _library(self, path: Path, soname: str, prefix: str, origin: str) -> Library:
        built = self._built[prefix]
        self._note(built)
        return Library(
            soname=soname,
            path=path,
            origin=PurePosixPath(origin),
            package=built.name,
            version=built.release,
            licenses=built.licenses,
        )

    def _note(self, built: RunTimePackage) -> Package:
        return self.packages.setdefault(built.name, _package(built, self.spack))

    def _new_folder(self) -> Path:
        self.folders += 1
        return self.spack.work / f"spack-libraries-{self.folders}"


def installed_packages(spack: Spack, collected: Collected) -> dict[PurePosixPath, Package]:
    """The package of each ELF file that lies in the tree itself and is not Slurm's."""
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
