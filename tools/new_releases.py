"""Add releases that upstream has published since to resources/releases.json, and print their names.

A scheduled workflow runs it (.github/workflows/releases.yml). Settings are those of slurm-factory:
SLURM_FACTORY_SLURM_URL names the repository, SLURM_FACTORY_SOURCE_MIRRORS where archives are.
"""

import json
import sys
import tempfile
from pathlib import Path

from packaging.version import Version

from slurm_factory.config import load_settings
from slurm_factory.exceptions import SlurmFactoryError
from slurm_factory.fetch.catalogs import update
from slurm_factory.output.reporter import make_reporter
from slurm_factory.plan.releases import Release
from slurm_factory.util.files import atomic_write

CATALOG = Path(__file__).parents[1] / "slurm_factory" / "resources" / "releases.json"


def add(releases: tuple[Release, ...], catalog: Path) -> None:
    """Add releases to a catalog, or the checksum to those that have none there."""
    document = json.loads(catalog.read_text("utf-8"))
    rows = {row["release"]: row for row in document["releases"]}
    for release in releases:
        entry = release.model_dump(mode="json", exclude_defaults=True)
        rows[release.release] = {**entry, "debian_pool": None}
    document["releases"] = sorted(rows.values(), key=lambda row: Version(row["release"]))
    with atomic_write(catalog) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())


def main() -> int:
    """Look, add, and print."""
    catalog = Path(sys.argv[1]) if sys.argv[1:] else CATALOG
    with tempfile.TemporaryDirectory() as cache, make_reporter() as reporter:
        try:
            settings = load_settings().model_copy(update={"cache_dir": Path(cache)})
            found = update(settings, reporter)
        except SlurmFactoryError as error:
            reporter.error(error)
            return error.exit_code
    if found:
        add(found, catalog)
    for release in found:
        sys.stdout.write(f"{release.release}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
