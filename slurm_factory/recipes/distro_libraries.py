"""The distribution's libraries of an instance, for the closure of a tree."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.package.built import Package
from slurm_factory.relocate.closure import Directory, Library
from slurm_factory.util.hints import printable
from slurm_factory.util.tar_stream import refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job

NAME = r"[a-z0-9][a-z0-9+.-]+"
PACKAGE = re.compile(rf"{NAME}\t[A-Za-z0-9.+:~-]+\t[a-z0-9-]+\t{NAME}")
"""Debian Policy, sections 5.6.1, 5.6.7, 5.6.8 and 5.6.12."""


@dataclass
class InstanceLibraries:
    """Takes libraries out of the instance into the build's work directory."""

    job: Job
    instance: Instance
    packages: dict[str, Package] = field(default_factory=dict)
    """Packages with fetched files, by name."""
    taken: int = field(default=0)
    """Number of directories taken out of the instance."""

    def fetch(self, sonames: Sequence[str]) -> dict[str, Library]:
        """Copies of the libraries in the instance, by soname."""
        out = self._run(
            "fetch-libraries.sh",
            {
                "SONAMES": "\n".join(sonames),
                "ARCHITECTURE": self.job.plan.architecture,
                "TRIPLET": self.job.plan.compiler.triplet,
            },
        )
        rows = table(regular(out / "libraries.tsv").read_bytes(), 6)
        return {row[0]: self._library(out, *one_of(row, sonames)) for row in rows}

    def fetch_directory(self, patterns: Sequence[str]) -> Directory | None:
        """A copy of the first directory that matches one of the globs, if any."""
        out = self._run("fetch-directory.sh", {"PATTERNS": "\n".join(patterns)})
        if not (out / "directory.tsv").exists():
            return None
        [(origin, *about)] = table((out / "directory.tsv").read_bytes(), 5, rows=1)
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
        return self._run("fetch-licenses.sh", {})

    def _run(self, script: str, parameters: dict[str, str]) -> Path:
        """Run a script that fills a directory, and take that (host)."""
        self.taken += 1
        target = self.job.workspace.work / f"distro-{self.taken}"
        return self.instance.fill(target, script, parameters, self.job.reporter.line)

    def _library(self, out: Path, soname: str, origin: str, *about: str) -> Library:
        package = self._note(about)
        return Library(
            soname=soname,
            path=regular(out / "lib" / soname),
            origin=PurePosixPath(origin),
            package=package.name,
            version=package.version,
            licenses=(out / "licenses" / package.name,),
        )

    def _note(self, about: Sequence[str]) -> Package:
        package = _package(about)
        return self.packages.setdefault(package.name, package)


def installed_packages(listed: bytes) -> dict[PurePosixPath, Package]:
    """The package of each program that a recipe took from the instance, by path in the tree.

    Args:
        listed: List from its script, a line each: path in the tree, package, version, architecture,
            source package.

    Raises:
        VerificationError: It is not such a list.
    """
    return {path_below(file): _package(about) for file, *about in table(listed, 5)}


def table(content: bytes, columns: int, *, rows: int | None = None) -> list[list[str]]:
    """Tab-separated fields of each line of a table from a script of the recipes.

    Args:
        content: The table.
        columns: Number of fields in each line.
        rows: Number of lines; None: any.

    Raises:
        VerificationError: It is not such a table.
    """
    found = [line.split("\t") for line in content.decode("utf-8", "replace").split("\n") if line]
    wrong = next((row for row in found if len(row) != columns), None)
    if wrong is not None or rows not in (None, len(found)):
        raise refused(f"A list of its files is wrong: {printable(str(wrong or found))}.")
    return found


def path_below(text: str) -> PurePosixPath:
    """A relative path that stays below its directory.

    Raises:
        VerificationError: It does not.
    """
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        raise refused(f"A list names a file outside the directory: {printable(text)}.")
    return path


def one_of(row: Sequence[str], sonames: Sequence[str]) -> Sequence[str]:
    """A line about one of the libraries that were asked for.

    Raises:
        VerificationError: It is about another one.
    """
    if row[0] not in sonames or "/" in row[0]:
        raise refused(f"It contains a library that was not asked for: {printable(row[0])}.")
    return row


def regular(path: Path) -> Path:
    """A file (host) that the instance has delivered.

    Raises:
        VerificationError: There is no such file.
    """
    if not path.is_file():
        raise refused(f"The file {path.name} is missing.")
    return path


def _package(about: Sequence[str]) -> Package:
    text = "\t".join(about)
    if not PACKAGE.fullmatch(text):
        raise refused(f"A list names an impossible package: {printable(text)}.")
    name, version, architecture, source = about
    return Package(name, version, architecture, source)
