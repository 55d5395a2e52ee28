"""Releases beside the shipped catalog: from the user's catalogs, and new ones of upstream."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from packaging.version import Version
from pydantic import ValidationError

from slurm_factory.exceptions import ConfigurationError, DownloadError, SlurmFactoryError
from slurm_factory.fetch.copies import document_at
from slurm_factory.fetch.git import refs_of
from slurm_factory.fetch.http import TransferError
from slurm_factory.fetch.own_source import find_published
from slurm_factory.plan.base_setup import directory_of, without_credentials
from slurm_factory.plan.releases import Release, catalog, series
from slurm_factory.util.documents import parse_json, read_text
from slurm_factory.util.files import atomic_write, file_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter

LARGEST = 4 << 20
TAG = re.compile(r"refs/tags/slurm-(\d{2})-(\d{2})-(\d{1,3})-(\d{1,2})", re.ASCII)
"""Tags of releases. Those of candidates have a 0 and letters at the end."""


def known_releases(
    settings: Settings, reporter: Reporter, *, offline: bool = False
) -> tuple[Release, ...]:
    """All releases that can be built, oldest first.

    Of one release in several catalogs, that of the last one counts: the shipped catalog, the
    user's own, and those of the setting in their order.

    Args:
        settings: Settings of this site.
        reporter: Gets a warning for a catalog of which only a copy can be had.
        offline: Use the copies of catalogs from URLs.

    Raises:
        ConfigurationError: A catalog cannot be used.
        DownloadError: One can neither be fetched nor is there a copy.
        OutputError: The cache cannot be used.
    """
    found = {release.release: release for release in catalog()}
    own = settings.own_catalog
    if own.exists():
        found |= _by_name(_load(own, str(own)))
    for place in settings.catalogues:
        file = document_at(
            place,
            "the catalog",
            settings,
            reporter,
            largest=LARGEST,
            check=_parsed,
            offline=offline,
        )
        found |= _by_name(_load(file, without_credentials(place)))
    return tuple(sorted(found.values(), key=lambda release: Version(release.release)))


def update(settings: Settings, reporter: Reporter) -> tuple[Release, ...]:
    """Look for releases that no catalog knows, and add them to the user's own.

    Their archives are fetched, and their checksums are those of what upstream serves today. The
    archives stay in the source cache.

    Args:
        settings: Settings of this site.
        reporter: Shows progress and what could not be fetched.

    Returns:
        The new releases, oldest first.

    Raises:
        DownloadError: Upstream does not answer, or serves no archive of one of its tags.
        ConfigurationError: A catalog cannot be used, or an archive is no source of Slurm.
        OutputError: The user's own catalog cannot be written.
    """
    known = {release.release for release in known_releases(settings, reporter) if release.sha256}
    found: list[Release] = []
    failures: list[SlurmFactoryError] = []
    for tag, name in _published(settings):
        if name in known:
            continue
        reporter.note(f"Slurm {name} is new: fetching {tag}.")
        try:
            release = find_published(tag, name, settings, reporter)
        except (ConfigurationError, DownloadError) as error:
            reporter.warning(f"{error.brief} {error.details}")
            failures.append(error)
        else:
            _add([release], settings.own_catalog)
            found.append(release)
    if failures and not found:
        raise failures[0]
    return tuple(found)


def _published(settings: Settings) -> list[tuple[str, str]]:
    """Tag and release of all that upstream has published for series that can be built."""
    url = settings.slurm_url
    try:
        refs = refs_of(str(directory_of(url) or url), settings.download_timeout)
    except TransferError as error:
        raise DownloadError(
            f"{without_credentials(url)} does not tell which releases there are.",
            details=f"{error}.",
            resolution="Run the command where there is a network, or set SLURM_FACTORY_SLURM_URL to"
            " a copy of the repository.",
        ) from error
    newest: dict[str, tuple[int, str]] = {}
    for ref in refs:
        match = TAG.fullmatch(ref)
        if match and Version(f"{match[1]}.{match[2]}") >= Version(series()[0]):
            name = f"{match[1]}.{match[2]}.{int(match[3])}"
            newest[name] = max(newest.get(name, (0, "")), (int(match[4]), ref))
    rows = [(ref.removeprefix("refs/tags/"), name) for name, (_, ref) in newest.items()]
    return sorted(rows, key=lambda row: Version(row[1]))


def _add(releases: Iterable[Release], own: Path) -> None:
    with file_errors(own), FileLock(own.with_suffix(".lock")):
        entries = _by_name(_load(own, str(own))) if own.exists() else {}
        entries |= _by_name(releases)
        document = {
            "about": "Releases that `slurm-factory versions --update` has found.",
            "releases": [
                entry.model_dump(mode="json", exclude_defaults=True) for entry in entries.values()
            ],
        }
        with atomic_write(own) as file:
            file.write((json.dumps(document, indent=1) + "\n").encode())


def _by_name(releases: Iterable[Release]) -> dict[str, Release]:
    return {release.release: release for release in releases}


def _parsed(text: str | bytes) -> Sequence[Release]:
    document: Any = parse_json(text)
    return [Release.model_validate(entry) for entry in document["releases"]]


def _load(path: Path, shown: str) -> Sequence[Release]:
    try:
        return _parsed(read_text(path))
    except OSError as error:
        reason = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, KeyError, TypeError) as error:
        reason = f"It is not a catalog of releases: {error!s:.200}"
    raise ConfigurationError(
        f"The catalog {shown} cannot be used.",
        details=f"{reason.rstrip('.')}.",
        resolution="It has the form of slurm-factory's own resources/releases.json. Correct it, or"
        " SLURM_FACTORY_CATALOGUES.",
    )
