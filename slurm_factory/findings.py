"""What finished packages contain, and which advisories are known of it today."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.package.file_names import MANIFEST_END, SOFTWARE_END
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.publish import PublishedArtifact
from slurm_factory.plan.advisories import (
    Advisory,
    advisories,
    known_advisories,
    suspected_advisories,
)
from slurm_factory.plan.bases import bases
from slurm_factory.util.hints import nearest, quoted

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.fetch.trackers import Finding, Lookup
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.package.manifest import BundledFile, Manifest

ADVISORY = re.compile(r"[A-Z]+(?:-[A-Z0-9]+)+", re.ASCII)
BINARY_ONLY = re.compile(r"\+b\d+$")
"""Suffix of the version of a Debian package that was only compiled again (deb-version(7))."""


@dataclass(frozen=True)
class Library:
    """A package of the distribution or of Spack, some files of which are bundled.

    Attributes:
        name: Name of the source package.
        version: Its version.
        files: Names of the bundled files.
        findings: Its known holes; None: not looked up.
    """

    name: str
    version: str
    files: tuple[str, ...]
    findings: tuple[Finding, ...] | None = None


@dataclass(frozen=True)
class Report:
    """A finished package, as it is known today.

    Attributes:
        path: Its manifest (host).
        manifest: Content of that.
        advisories: Known advisories of its Slurm.
        suspected: Those that nobody has confirmed.
        libraries: All that is bundled.
        looked_up: Whether the libraries were to be looked up.
    """

    path: Path
    manifest: Manifest
    advisories: tuple[Advisory, ...]
    suspected: tuple[Advisory, ...]
    libraries: tuple[Library, ...]
    looked_up: bool

    @property
    def has_gaps(self) -> bool:
        """Whether nothing could be said about some of its libraries."""
        return self.looked_up and any(each.findings is None for each in self.libraries)

    def has(self, advisory: str) -> bool:
        """Whether Slurm or a library has an advisory."""
        found = {finding.id for each in self.libraries for finding in each.findings or ()}
        return advisory in found | {each.id for each in (*self.advisories, *self.suspected)}


def known_now(manifest: Manifest) -> tuple[Advisory, ...]:
    """The advisories of the Slurm in a package, as they are known today."""
    return known_advisories(*_slurm_of(manifest))


def suspected_now(manifest: Manifest) -> tuple[Advisory, ...]:
    """The advisories that it may have, although nobody has said so."""
    return suspected_advisories(*_slurm_of(manifest))


def _slurm_of(manifest: Manifest) -> tuple[str, tuple[str, ...]]:
    """The release of Slurm in a package, and the advisories that its patches fix."""
    fixed = manifest.security.fixed if manifest.security else ()
    return manifest.identity.release.partition("+")[0], fixed


def parse_advisory(text: str) -> str:
    """The id of an advisory, in capitals as they are published; empty: none.

    Raises:
        ConfigurationError: It is no such id.
    """
    advisory = text.strip().upper()
    if text and not ADVISORY.fullmatch(advisory):
        raise ConfigurationError(
            f"{quoted(text)} is no id of an advisory.",
            details="It is one such as CVE-2026-65107 or GHSA-1234-5678-9ABC.",
            resolution="Correct --advisory. `slurm-factory versions` lists those of Slurm.",
        )
    return advisory


def is_of_slurm(advisory: str) -> bool:
    """Whether an advisory is one of Slurm itself."""
    return advisory in {each.id for each in advisories()}


def select(artifacts: Sequence[PublishedArtifact], names: Sequence[str]) -> list[PublishedArtifact]:
    """The packages of these names; without a name, all that can be read.

    Args:
        artifacts: All packages.
        names: Names of packages as their files begin, paths as `list` prints them, or paths (host)
            of manifests, and of tarballs beside them, anywhere.

    Raises:
        ConfigurationError: There is no package of a name, or it cannot be read.
        OutputError: A manifest at a path cannot be used.
    """
    if not names:
        return [each for each in artifacts if each.manifest]
    by_name = {each.path.name.removesuffix(MANIFEST_END): each for each in artifacts}
    by_path = {str(each.path).removesuffix(MANIFEST_END): each for each in artifacts}
    found = []
    for name in names:
        path = name.removesuffix(MANIFEST_END).removesuffix(SOFTWARE_END)
        stem = Path(path).name
        artifact = by_path.get(path) or _elsewhere(path)
        if artifact is None and "/" not in name:
            artifact = by_name.get(stem)
        if artifact is None:
            near = nearest(stem, by_name)
            raise ConfigurationError(
                f"There is no finished package {quoted(name)}.",
                details=f"Did you mean {near}?" if near else "There are none of a similar name.",
                resolution="`slurm-factory list` names the finished packages.",
            )
        if artifact.manifest is None:
            raise ConfigurationError(
                f"The package {quoted(name)} cannot be read.",
                details=artifact.problem,
                resolution="Build it again.",
            )
        found.append(artifact)
    return found


def _elsewhere(word: str) -> PublishedArtifact | None:
    """The package whose manifest has this path, which may be any, with or without its ending."""
    path = Path(word if word.endswith(".json") else f"{word}{MANIFEST_END}")
    if not ("/" in word or word.endswith(".json")) or not path.is_file():
        return None
    return PublishedArtifact(path, load_manifest(path), "")


def report(
    artifacts: Sequence[PublishedArtifact],
    settings: Settings,
    reporter: Reporter,
    *,
    look_up: bool,
    osv: str = "",
    offline: bool = False,
) -> tuple[Report, ...]:
    """What is known of packages.

    Args:
        artifacts: Packages whose manifest can be read.
        settings: Settings of this site.
        reporter: Gets a warning for libraries that nothing can be said about.
        look_up: Look up the holes of the libraries.
        osv: Path or URL of a document in OSV's format, for libraries of Spack and Ubuntu.
        offline: Fetch nothing.

    Raises:
        ConfigurationError: The data of the holes cannot be used.
        DownloadError: It cannot be fetched, and there is no copy.
    """
    sources = _Sources(settings, reporter, osv, offline=offline) if look_up else None
    reports = []
    for artifact in artifacts:
        manifest = artifact.manifest
        if manifest:
            libraries = _libraries(manifest, sources)
            slurm = (known_now(manifest), suspected_now(manifest))
            reports.append(Report(artifact.path, manifest, *slurm, libraries, look_up))
    return tuple(reports)


class _Sources:
    """Where to look up libraries; each source is read once."""

    def __init__(self, settings: Settings, reporter: Reporter, osv: str, *, offline: bool) -> None:
        self._settings, self._reporter = settings, reporter
        self._osv, self._offline = osv, offline
        self.of = cache(self._find)

    def _find(self, kind: str, base: str) -> Lookup | None:
        from slurm_factory.fetch.trackers import debian_tracker, osv  # noqa: PLC0415  # slow

        given, offline = (self._settings, self._reporter), self._offline
        if kind == "generic":
            if self._osv:
                return osv(self._osv, *given, offline=offline)
            self._reporter.warning("Libraries that Spack has built are looked up with --osv only.")
            return None
        found = next((each for each in bases() if each.name == base), None)
        if found and found.distribution == "debian":
            return debian_tracker(found.codename, *given, offline=offline)
        if found and self._osv:
            return osv(self._osv, *given, ubuntu=found.version, offline=offline)
        self._reporter.warning(f"Libraries of {base} are looked up with --osv only.")
        return None


def _libraries(manifest: Manifest, sources: _Sources | None) -> tuple[Library, ...]:
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for item in manifest.bundled:
        grouped.setdefault(_package_of(item), []).append(item.file)
    found = []
    for (kind, name, version), files in sorted(grouped.items()):
        lookup = sources.of(kind, manifest.identity.base) if sources else None
        findings = lookup(name, version) if lookup else None
        found.append(Library(name, version, tuple(sorted(files)), findings))
    return tuple(found)


def _package_of(item: BundledFile) -> tuple[str, str, str]:
    """Kind, name and version of the source package."""
    version = BINARY_ONLY.sub("", item.package_version)
    return item.package_type, item.source_package or item.package, version
