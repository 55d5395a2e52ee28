"""What is known of the holes of libraries: Debian's security tracker, and OSV."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debian.debian_support import version_compare

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch.copies import document_at
from slurm_factory.util.documents import parse_json, read_bytes

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter

LARGEST = 512 << 20
"""Of a document in bytes; that of Debian's tracker has about 70 MB."""
NOT_AFFECTED = "0"
"""Fixed version of a release that never had the hole (security-tracker.debian.org/tracker/data)."""
UNIMPORTANT = "unimportant"
UPSTREAM = frozenset({"", "ConanCenter", "GIT", "OSS-Fuzz"})
"""Ecosystems of OSV with the names and versions of libraries as their authors have them. Others are
distributions, and languages, whose packages may have the name of a library."""


@dataclass(frozen=True)
class Finding:
    """A hole of a package.

    Attributes:
        id: Such as CVE-2026-1234.
        fixed_in: The first version without it; empty if there is none.
    """

    id: str
    fixed_in: str = ""


Lookup = Callable[[str, str], tuple[Finding, ...]]
"""Findings for the name and version of a package."""


def debian_tracker(
    codename: str, settings: Settings, reporter: Reporter, *, offline: bool = False
) -> Lookup:
    """What Debian's security tracker says of source packages of one of its releases.

    Holes that Debian calls unimportant are left out.

    Args:
        codename: Such as bookworm.
        settings: Settings of this site: where the tracker's data is.
        reporter: Gets a warning if only an earlier copy can be had.
        offline: Fetch nothing.

    Raises:
        ConfigurationError: It is no data of the tracker.
        DownloadError: It cannot be fetched, and there is no copy.
    """
    place = settings.debian_tracker
    path = document_at(
        place,
        "Debian's tracker",
        settings,
        reporter,
        largest=LARGEST,
        check=parse_json,
        offline=offline,
    )
    document = _load(path, place)
    if not isinstance(document, dict):
        raise _unusable(place, "It is no object")

    def look_up(source: str, version: str) -> tuple[Finding, ...]:
        holes = document.get(source)
        return tuple(_debian_findings(holes, version, codename)) if isinstance(holes, dict) else ()

    return look_up


def _debian_findings(holes: Mapping[str, Any], version: str, codename: str) -> Iterator[Finding]:
    for name, hole in sorted(holes.items()):
        try:
            state = hole["releases"].get(codename, {})
            status, fixed = state.get("status"), str(state.get("fixed_version", ""))
            urgency = state.get("urgency")
            known = status in ("open", "resolved")
        except (AttributeError, KeyError, TypeError):
            continue
        if urgency == UNIMPORTANT or not known:
            continue
        if status == "open":
            yield Finding(name)
        elif fixed != NOT_AFFECTED and _is_older(version, fixed):
            yield Finding(name, fixed)


def _is_older(version: str, fixed: str) -> bool:
    try:
        return bool(version_compare(version, fixed) < 0)
    except ValueError:
        return False


def osv(
    place: str,
    settings: Settings,
    reporter: Reporter,
    *,
    ubuntu: str = "",
    offline: bool = False,
) -> Lookup:
    """What a document in OSV's format (ossf.github.io/osv-schema) says of packages by their names.

    Args:
        place: Path or URL of one record, of a list of records, or of `{"vulns": [...]}` as OSV's
            API answers; or a directory of such files.
        settings: Settings of this site.
        reporter: Gets a warning if only an earlier copy can be had.
        ubuntu: Release of Ubuntu, such as 24.04, whose source packages are looked up; empty: those
            of no distribution.
        offline: Fetch nothing.

    Raises:
        ConfigurationError: It is no such document.
        DownloadError: It cannot be fetched, and there is no copy.
    """
    path = document_at(
        place,
        "the document",
        settings,
        reporter,
        largest=LARGEST,
        check=parse_json,
        offline=offline,
    )
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    found: defaultdict[str, list[_Affected]] = defaultdict(list)
    for file in files:
        for record in _records(_load(file, str(file)), place):
            for name, affected in _affected_packages(record, ubuntu):
                found[name].append(affected)

    def look_up(name: str, version: str) -> tuple[Finding, ...]:
        findings: dict[str, Finding] = {}
        for affected in found.get(name, ()):
            for finding in _osv_findings(affected, version, ubuntu):
                findings.setdefault(finding.id, finding)
        return tuple(findings[key] for key in sorted(findings))

    return look_up


def _records(document: Any, place: str) -> list[dict[str, Any]]:
    if isinstance(document, dict):
        document = document.get("vulns", [document] if document else [])
    if not isinstance(document, list) or not all(
        isinstance(record, dict) and isinstance(record.get("id"), str) for record in document
    ):
        raise _unusable(place, "It has no records with an id")
    return document


@dataclass(frozen=True)
class _Affected:
    """One entry of a record's `affected`, and the ids of the holes."""

    ids: tuple[str, ...]
    entry: Mapping[str, Any]


def _affected_packages(record: Mapping[str, Any], ubuntu: str) -> Iterator[tuple[str, _Affected]]:
    if record.get("withdrawn"):
        return
    names = [record["id"].removeprefix("UBUNTU-")]
    # Upstream's ids are aliases of a library's record, and "upstream" of a distribution's.
    for key in ("aliases", "upstream"):
        more = record.get(key)
        names += map(str, more if isinstance(more, list) else ())
    # Each CVE is a hole of its own for those who ask for it.
    ids = tuple(name for name in names if name.startswith("CVE-")) or (names[0],)
    for entry in _dicts(record.get("affected")):
        package = entry.get("package")
        if isinstance(package, dict) and _is_of(str(package.get("ecosystem", "")), ubuntu):
            yield str(package.get("name")), _Affected(ids, entry)


def _osv_findings(affected: _Affected, version: str, ubuntu: str) -> Iterator[Finding]:
    order = cmp_to_key(version_compare) if ubuntu else _key
    for ranges in _dicts(affected.entry.get("ranges")):
        if ranges.get("type") != "GIT":
            hit, fixed = _in_range(version, list(_dicts(ranges.get("events"))), order)
            if hit:
                yield from (Finding(name, fixed) for name in affected.ids)
    # After the ranges, which also say where it is fixed.
    versions = affected.entry.get("versions")
    if isinstance(versions, list) and version in versions:
        yield from (Finding(name) for name in affected.ids)


def _is_of(ecosystem: str, ubuntu: str) -> bool:
    """Whether a record's ecosystem, such as Ubuntu:24.04:LTS, is the one that is looked up."""
    family, *release = ecosystem.split(":")
    if not ubuntu:
        return family in UPSTREAM
    # Others, such as FIPS, have packages with versions of their own.
    named = [part for part in release if part not in {"Pro", "LTS"}]
    return family == "Ubuntu" and named == [ubuntu]


def _in_range(
    version: str, events: list[dict[str, Any]], order: Callable[[str], Any]
) -> tuple[bool, str]:
    """Whether a version is affected, and where that is fixed (osv-schema, "Evaluation")."""
    try:
        own, hit = order(version), False
        steps = [(kind, str(value)) for event in events for kind, value in event.items()]
        for kind, value in sorted(steps, key=lambda step: order(step[1])):
            if kind == "introduced" and (value == "0" or own >= order(value)):
                hit = True
            elif kind == "fixed" and hit:
                if own < order(value):
                    return True, value
                hit = False
            elif kind == "last_affected" and hit and own > order(value):
                hit = False
    except ValueError:  # No version of a Debian package.
        return False, ""
    return hit, ""


def _key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Numbers count as numbers, and come after letters: 1.1.1w is older than 1.1.2."""
    parts = re.findall(r"\d+|[a-z]+", version.lower())
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def _dicts(value: object) -> Iterable[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _load(path: Path, place: str) -> Any:
    try:
        return parse_json(read_bytes(path))
    except OSError as error:
        raise _unusable(place, error.strerror or str(error)) from error
    except (ValueError, json.JSONDecodeError) as error:
        raise _unusable(place, f"{error!s:.200}") from error


def _unusable(place: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"The data at {place} cannot be used.",
        details=f"{reason.rstrip('.')}.",
        resolution="Correct SLURM_FACTORY_DEBIAN_TRACKER or --osv.",
    )
