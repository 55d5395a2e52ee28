"""The indexes of build caches: reading them, and keeping that of this machine complete."""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import TYPE_CHECKING

from slurm_factory.util.documents import parse_json, read_bytes, read_json

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.recipes.spack.lock import Lock
    from slurm_factory.recipes.spack.session import Spack

ENTRIES = "v3/manifests/spec"
ENTRY = ".spec.manifest.json"
INDEX = "v3/manifests/index/index.manifest.json"
COPIES = "indices/contents.json"
"""Spack's copies of indexes, below its `misc_cache`."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""Errors of reading an index that is missing or damaged."""
UNUSABLE = re.compile(r"Unable to fetch spec for manifest \S*/(?P<entry>[^/\s]+)\.spec\.manifest")


def refresh_index(spack: Spack) -> None:
    """Let Spack update the index if it does not list everything in the build cache.

    Packages that are pushed during a build are not in the index (Spack 1.1.0), and the new
    installer uses only packages that the index lists; a damaged index makes it fail. If the index
    lists packages that are gone, Spack selects them and then reports them as damaged.

    Raises:
        CommandError: Spack could not.
        OSError: The remains of an empty build cache cannot be removed.
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
    """Whether the index of a build cache (host) is valid, younger than every entry, and lists no
    others (layout of Spack's build caches, v3: spack.readthedocs.io, "binary_caches.html").

    It need not list all entries: Spack skips those that it cannot read. An empty cache needs no
    index.
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
        # A key is a URL and the version of its layout.
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
    """Hashes of the existing packages; file names are <name>-<version>-<hash>."""
    names = (path.name.removesuffix(ENTRY) for path in _entries(cache))
    return frozenset(name.rpartition("-")[2] for name in names)


def _named(index: Path, cache: Path) -> frozenset[str] | None:
    """Hashes of the packages in an index; None if it is damaged."""
    try:
        (about,) = read_json(index)["data"]
        digest = str(about["checksum"])
        content = read_bytes(cache / "blobs" / "sha256" / digest[:2] / digest)
        return _listed(content) if hashlib.sha256(content).hexdigest() == digest else None
    except UNREADABLE:
        return None


def _listed(index: bytes) -> frozenset[str]:
    """Hashes of the packages in an index; raises UNREADABLE errors if it is invalid."""
    installs = parse_json(index)["database"]["installs"]
    return frozenset(known for known, row in installs.items() if row["in_buildcache"])


def _forget_index(spack: Spack) -> None:
    """Remove the index of an empty build cache, and Spack's copies of it.

    If an index is gone, Spack uses its earlier copy (1.1.0).
    """
    settings = spack.job.settings
    (settings.buildcache_dir / INDEX).unlink(missing_ok=True)
    here = f"file://{spack.inside(settings.buildcache_dir)}"
    for copies in settings.spack_misc_dir.glob(f"*/{COPIES}"):
        if here.encode() in read_bytes(copies):
            shutil.rmtree(copies.parent)


class _Watch:
    """Reports entries that Spack omits from the index because it cannot read them."""

    def __init__(self, spack: Spack) -> None:
        self._reporter = spack.job.reporter

    def __call__(self, line: str) -> None:
        self._reporter.line(line)
        found = UNUSABLE.search(line)
        if found:
            self._reporter.warning(
                f"The build cache's entry {found['entry']} is damaged; building the package again."
            )
