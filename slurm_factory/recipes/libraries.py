"""The distribution's libraries of an instance, as `relocate` wants them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, Protocol

from slurm_factory.relocate import Directory, Library, LibrarySource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.recipes import Workshop


@dataclass(frozen=True)
class Package:
    """A distribution package, as advisories know it."""

    name: str
    version: str
    architecture: str
    source: str
    kind: Literal["deb", "generic"] = "deb"
    """As package URLs name it; what Spack built is `generic`."""
    spack_hash: str | None = None


class PackageSource(LibrarySource, Protocol):
    """Where libraries come from, with the packages that they belong to."""

    packages: dict[str, Package]
    """Packages that something was fetched from, by name."""

    def fetch_common_licences(self) -> Path:
        """The texts that copyright files name, in a directory on the host."""
        ...

    def installed(self) -> dict[PurePosixPath, Package]:
        """The package of each ELF file of the tree that is not Slurm's, by path in the tree."""
        ...


@dataclass
class InstanceLibraries:
    """Fetches libraries out of the instance into the build's work directory."""

    workshop: Workshop
    packages: dict[str, Package] = field(default_factory=dict)
    """Packages that something was fetched from, by name."""
    directories: int = field(default=0)

    @property
    def _out(self) -> Path:
        return self.workshop.work / "libraries"

    def fetch(self, sonames: Sequence[str]) -> dict[str, Library]:
        """Copies of the libraries that the instance has, by soname."""
        self.workshop.instance.run_script(
            "fetch-libraries.sh",
            {"SONAMES": "\n".join(sonames), "OUT": self.workshop.instance.inside(self._out)},
            self.workshop.reporter.line,
        )
        rows = read_rows(self._out / "libraries.tsv")
        return {soname: self._library(soname, *rest) for soname, *rest in rows}

    def fetch_directory(self, patterns: Sequence[str]) -> Directory | None:
        """A copy of the first directory that matches one of the globs, if one does."""
        self.directories += 1
        out = self._out / f"directory-{self.directories}"
        self.workshop.instance.run_script(
            "fetch-directory.sh",
            {"PATTERNS": "\n".join(patterns), "OUT": self.workshop.instance.inside(out)},
            self.workshop.reporter.line,
        )
        if not (out / "directory.tsv").exists():
            return None
        [(origin, *about)] = read_rows(out / "directory.tsv")
        package = self._note(about)
        return Directory(
            path=out / "content",
            origin=PurePosixPath(origin),
            package=package.name,
            version=package.version,
            licences=(out / "copyright",),
        )

    def fetch_common_licences(self) -> Path:
        """The texts that copyright files of the instance name, in a directory on the host."""
        out = self._out / "common-licences"
        self.workshop.instance.run_script(
            "fetch-licences.sh",
            {"OUT": self.workshop.instance.inside(out)},
            self.workshop.reporter.line,
        )
        return out

    def installed(self) -> dict[PurePosixPath, Package]:
        """The package of each program that the recipe took from the instance, by path in the tree.

        What relocation has fetched is in `packages`.
        """
        rows = read_rows(installed_list(self.workshop))
        return {PurePosixPath(path): self._note(about) for path, *about in rows}

    def _library(self, soname: str, origin: str, *about: str) -> Library:
        package = self._note(about)
        return Library(
            soname=soname,
            path=self._out / "lib" / soname,
            origin=PurePosixPath(origin),
            package=package.name,
            version=package.version,
            licences=(self._out / "licences" / package.name,),
        )

    def _note(self, about: Sequence[str]) -> Package:
        name, version, architecture, source = about
        package = Package(name, version, architecture, source)
        return self.packages.setdefault(package.name, package)


def installed_list(workshop: Workshop) -> Path:
    """Where a recipe lists (host) the programs that it took from the instance.

    A line each: path in the tree, package, version, architecture, source package.
    """
    return workshop.work / "installed.tsv"


def read_rows(path: Path) -> list[list[str]]:
    """Fields of each line of a table (host) that a script of the recipes wrote, split at tabs."""
    return [line.split("\t") for line in path.read_text("utf-8").splitlines()]
