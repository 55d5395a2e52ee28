"""The indexes of build caches: reading them, and keeping that of this machine complete."""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import TYPE_CHECKING

from slurm_factory.util.documents import parse_json, read_bytes, read_json, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.recipes.spack.lock import Lock
    from slurm_factory.recipes.spack.session import Spack

ENTRIES = "v3/manifests/spec"
ENTRY = ".spec.manifest.json"
INDEX = "v3/manifests/index/index.manifest.json"
COPIES = "indices/contents.json"
"""What Spack keeps of the indexes that it has read, below its `misc_cache`."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading one ends with where it is gone, or not what it should be."""
UNUSABLE = re.compile(r"Unable to fetch spec for manifest \S*/(?P<entry>[^/\s]+)\.spec\.manifest")


def refresh_index(spack: Spack) -> None:
    """Let Spack write the index anew where it does not name all that is in the build cache.

    Packages that are pushed as they finish are not in the index (Spack 1.1.0), and the new
    installer takes nothing from a cache whose index does not name it; a damaged index ends it.
    Where it names packages that are gone, Spack decides for those and then calls them damaged.

    Raises:
        CommandError: Spack could not.
        OSError: What is left of an empty build cache cannot be removed.
    """
    cache = spack.job.settings.buildcache_dir
    if not _hashes(cache):
        _forget_index(spack)
    elif not index_is_current(cache):
        spack.run(
            "buildcache",
            "update-index",
            f"file://{spack.inside(cache)}",
            on_line=_Watch(spack),
        )


def index_is_current(cache: Path) -> bool:
    """Whether the index of a build cache (host) is sound, younger than every entry, and names no
    other ones (layout of Spack's build caches, v3: spack.readthedocs.io, "binary_caches.html").

    Not all entries have to be in it: Spack leaves out what it cannot read. An empty cache needs
    none.
    """
    entries, index = _entries(cache), cache / INDEX
    if not entries:
        return True
    named = _named(index, cache)
    if named is None or not named <= _hashes(cache):
        return False
    return index.stat().st_mtime_ns >= max(path.stat().st_mtime_ns for path in entries)


def in_remote_caches(spack: Spack, lock: Lock) -> frozenset[str]:
    """Hashes of those packages of `lock` that remote build caches have for Spack to take.

    No server is asked: Spack keeps copies of the indexes, which are as old as its last look at
    them. Without a copy nothing is known. The indexes do not say who signed an entry.
    """
    choice = spack.choice
    usable = spack.verifies or not choice.signed
    asked = {url.rstrip("/") for url in choice.buildcaches if usable}
    contents = spack.misc_cache / COPIES
    try:
        # A key is a URL and the version of the layout that was found there.
        copies = [
            contents.with_name(about["index_path"])
            for key, about in (read_json(contents) if asked else {}).items()
            if key.rpartition("__v")[0].rstrip("/") in asked
        ]
        wanted = {node.hash for node in lock.packages}
        return frozenset().union(*(wanted & _listed(read_bytes(copy)) for copy in copies))
    except UNREADABLE:
        return frozenset()


def _entries(cache: Path) -> list[Path]:
    return list((cache / ENTRIES).glob(f"*/*{ENTRY}"))


def _hashes(cache: Path) -> frozenset[str]:
    """Of the packages that are there; their files are called <name>-<version>-<hash>."""
    names = (path.name.removesuffix(ENTRY) for path in _entries(cache))
    return frozenset(name.rpartition("-")[2] for name in names)


def _named(index: Path, cache: Path) -> frozenset[str] | None:
    """Hashes of the packages that an index names; None if it is damaged."""
    try:
        (about,) = read_json(index)["data"]
        digest = str(about["checksum"])
        content = read_bytes(cache / "blobs" / "sha256" / digest[:2] / digest)
        return _listed(content) if hashlib.sha256(content).hexdigest() == digest else None
    except UNREADABLE:
        return None


def _listed(index: bytes) -> frozenset[str]:
    """Hashes of the packages in an index; UNREADABLE is what it raises where it is none."""
    installs = parse_json(index)["database"]["installs"]
    return frozenset(known for known, row in installs.items() if row["in_buildcache"])


def _forget_index(spack: Spack) -> None:
    """Remove the index of an empty build cache, and what Spack keeps of it.

    Where an index is gone, Spack uses the copy that it made before (1.1.0).
    """
    settings = spack.job.settings
    (settings.buildcache_dir / INDEX).unlink(missing_ok=True)
    here = f"file://{spack.inside(settings.buildcache_dir)}"
    for copies in settings.spack_misc_dir.glob(f"*/{COPIES}"):
        if here in read_text(copies):
            shutil.rmtree(copies.parent)


class _Watch:
    """Reports entries that Spack leaves out of the index because it cannot read them."""

    def __init__(self, spack: Spack) -> None:
        self._reporter = spack.job.reporter

    def __call__(self, line: str) -> None:
        self._reporter.line(line)
        found = UNUSABLE.search(line)
        if found:
            self._reporter.warning(
                f"The build cache's entry {found['entry']} is damaged: the package is built anew."
            )
