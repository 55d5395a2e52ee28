"""The distribution's libraries of an instance, for `relocate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.package.built import Package
from slurm_factory.relocate.closure import Directory, Library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job


@dataclass
class InstanceLibraries:
    """Fetches libraries out of the instance into the build's work directory."""

    job: Job
    instance: Instance
    packages: dict[str, Package] = field(default_factory=dict)
    """Packages with fetched files, by name."""
    directories: int = field(default=0)

    @property
    def _out(self) -> Path:
        return self.job.workspace.work / "libraries"

    def fetch(self, sonames: Sequence[str]) -> dict[str, Library]:
        """Copies of the libraries in the instance, by soname."""
        self.instance.run_script(
            "fetch-libraries.sh",
            {"SONAMES": "\n".join(sonames), "OUT": self.instance.inside(self._out)},
            self.job.reporter.line,
        )
        rows = read_rows(self._out / "libraries.tsv")
        return {soname: self._library(soname, *rest) for soname, *rest in rows}

    def fetch_directory(self, patterns: Sequence[str]) -> Directory | None:
        """A copy of the first directory that matches one of the globs, if any."""
        self.directories += 1
        out = self._out / f"directory-{self.directories}"
        self.instance.run_script(
            "fetch-directory.sh",
            {"PATTERNS": "\n".join(patterns), "OUT": self.instance.inside(out)},
            self.job.reporter.line,
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
            licenses=(out / "copyright",),
        )

    def fetch_common_licenses(self) -> Path:
        """The license texts that copyright files of the instance refer to, in a directory on the
        host."""
        out = self._out / "common-licenses"
        self.instance.run_script(
            "fetch-licenses.sh",
            {"OUT": self.instance.inside(out)},
            self.job.reporter.line,
        )
        return out

    def _library(self, soname: str, origin: str, *about: str) -> Library:
        package = self._note(about)
        return Library(
            soname=soname,
            path=self._out / "lib" / soname,
            origin=PurePosixPath(origin),
            package=package.name,
            version=package.version,
            licenses=(self._out / "licenses" / package.name,),
        )

    def _note(self, about: Sequence[str]) -> Package:
        package = _package(about)
        return self.packages.setdefault(package.name, package)


def read_installed(path: Path) -> dict[PurePosixPath, Package]:
    """The package of each program that a recipe took from the instance, by path in the tree.

    Args:
        path: List (host) from its script, a line each: path in the tree, package, version,
            architecture, source package.
    """
    return {PurePosixPath(file): _package(about) for file, *about in read_rows(path)}


def read_rows(path: Path) -> list[list[str]]:
    """Tab-separated fields of each line of a table (host) from a script of the recipes."""
    return [line.split("\t") for line in path.read_text("utf-8").splitlines()]


def _package(about: Sequence[str]) -> Package:
    name, version, architecture, source = about
    return Package(name, version, architecture, source)
