"""Print the release that `make build` builds.

The newest supported release, if a source of it answers; else Slurm 24.11.5 with Debian's fixes,
which are in Debian's archive. One line on stderr says which, and why.
"""

import sys
from datetime import UTC, date, datetime

from slurm_factory.config import Settings, load_settings
from slurm_factory.fetch.http import TransferError, new_session, open_url
from slurm_factory.fetch.sources import Source, cached, candidates
from slurm_factory.fetch.upstream import debian_mirrors, slurm_source
from slurm_factory.plan.advisories import is_supported, known_advisories
from slurm_factory.plan.releases import Release, catalog

IN_DEBIAN = "24.11.5"
PATIENCE = 5.0
"""Seconds for each source to answer."""


def main() -> None:
    """Choose, and say so."""
    settings = load_settings()
    today = datetime.now(UTC).date()
    newest = _newest(catalog(), today)
    if newest and _answers(slurm_source(newest, debian_mirrors(settings)), settings):
        chosen, why = newest.release, "the newest supported release"
    else:
        missing = f"no source of {newest.release} answers" if newest else "no release is supported"
        chosen, why = IN_DEBIAN, f"with Debian's fixes, because {missing} here"
    sys.stderr.write(f"Slurm {chosen}: {why}.\n")
    sys.stdout.write(f"{chosen}\n")


def _newest(releases: tuple[Release, ...], today: date) -> Release | None:
    """The newest release that is supported, has a checksum and no known advisories."""
    good = (
        release
        for release in reversed(releases)
        if release.sha256
        and is_supported(release.series, today)
        and not known_advisories(release.release)
    )
    return next(good, None)


def _answers(source: Source, settings: Settings) -> bool:
    """Whether a source is in the cache, or can be fetched from somewhere."""
    if cached(source, settings.source_cache_dir):
        return True
    session = new_session()
    for url in candidates(source, settings.source_mirrors):
        try:
            with open_url(session, url, 0, PATIENCE):
                return True
        except TransferError:
            continue
    return False


if __name__ == "__main__":
    main()
