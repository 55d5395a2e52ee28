"""The build cache of this machine: its index must name what is in it."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.recipes.spack_session import Spack

ENTRIES = "v3/manifests/spec"
INDEX = "v3/manifests/index/index.manifest.json"
UNUSABLE = re.compile(r"Unable to fetch spec for manifest \S*/(?P<entry>[^/\s]+)\.spec\.manifest")


def refresh_index(spack: Spack) -> None:
    """Let Spack write the index anew where it does not name all that is in the build cache.

    Packages that are pushed as they finish are not in the index (Spack 1.1.0), and the new
    installer takes nothing from a cache whose index does not name it; a damaged index ends it.

    Raises:
        CommandError: Spack could not.
    """
    cache = spack.workshop.settings.buildcache_dir
    if not index_is_current(cache):
        spack.run(
            "buildcache",
            "update-index",
            f"file://{spack.inside(cache)}",
            on_line=_Watch(spack),
        )


def index_is_current(cache: Path) -> bool:
    """Whether the index of a build cache (host) is sound and younger than every entry.

    There is nothing to be done for a cache that is empty (layout of Spack's build caches, v3:
    spack.readthedocs.io, "binary_caches.html").
    """
    entries = [path.stat().st_mtime_ns for path in (cache / ENTRIES).glob("*/*.json")]
    if not entries:
        return True
    index = cache / INDEX
    return index.exists() and index.stat().st_mtime_ns >= max(entries) and _is_sound(index, cache)


def _is_sound(index: Path, cache: Path) -> bool:
    try:
        (about,) = json.loads(index.read_text("utf-8"))["data"]
        digest = str(about["checksum"])
        content = (cache / "blobs" / "sha256" / digest[:2] / digest).read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return hashlib.sha256(content).hexdigest() == digest


class _Watch:
    """Reports entries that Spack leaves out of the index because it cannot read them."""

    def __init__(self, spack: Spack) -> None:
        self._reporter = spack.workshop.reporter

    def __call__(self, line: str) -> None:
        self._reporter.line(line)
        found = UNUSABLE.search(line)
        if found:
            self._reporter.warning(
                f"The build cache's entry {found['entry']} is damaged: the package is built anew."
            )
