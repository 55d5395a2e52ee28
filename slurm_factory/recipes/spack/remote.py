"""Build caches elsewhere, as a build sees them: this machine takes from them, no instance does.

Spack in the instance sees a build cache of files for each: before it decides, with the index of all
that is there, and afterwards with the packages of the lock, which this machine has fetched and
checked. So no credentials and no keys are in an instance.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.buildcaches.caches import cache_at
from slurm_factory.buildcaches.layout import (
    INDEX,
    UNREADABLE,
    blob_path,
    describes,
    index_entry,
    listed_in,
    make_index,
)
from slurm_factory.buildcaches.signing import Trust
from slurm_factory.buildcaches.taking import Shelf, Taken
from slurm_factory.fetch.http import MissingError, TransferError
from slurm_factory.package.manifest import BuildCacheUse
from slurm_factory.util.files import file_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.buildcaches.caches import Cache
    from slurm_factory.recipes.spack.lock import Lock, Node
    from slurm_factory.recipes.spack.session import Spack

REASONS_SHOWN = 3
EMPTY = make_index({}, ())


@dataclass(frozen=True)
class RemotePackages:
    """The packages of a lock that build caches elsewhere had.

    Attributes:
        hashes: Their hashes: the instance sees these, and needs no sources for them.
        uses: How each build cache served the build.
    """

    hashes: frozenset[str] = frozenset()
    uses: tuple[BuildCacheUse, ...] = ()


def show_indexes(spack: Spack) -> None:
    """Let Spack see what is in build caches elsewhere, before it decides.

    The indexes are not signed. They influence what Spack decides, and nothing else: each package is
    checked when it is taken.

    Raises:
        OutputError: The cache directory is full.
    """
    for name, cache in _caches(spack):
        content = EMPTY
        if _may_take(spack):
            content = _index_of(spack, cache)
        _write_index(spack.views / name, content)


def take_remote_packages(spack: Spack, lock: Lock, wanted: Sequence[Node]) -> RemotePackages:
    """Fetch packages from build caches elsewhere, check them, and let the instance see them.

    Args:
        spack: Spack session with the project of `lock` in the instance.
        lock: The lock of this build.
        wanted: The packages that are in no build cache of this machine.

    Raises:
        ConfigurationError: The keys in the settings cannot be used.
        OutputError: The cache directory is full.
    """
    choice, settings = spack.choice, spack.job.settings
    if not choice.buildcaches:
        return RemotePackages()
    if not _may_take(spack):
        spack.job.reporter.warning(
            "Nothing is taken from build caches: SLURM_FACTORY_SPACK_BUILDCACHE_KEYS does not name"
            " the keys that sign in them."
        )
    had: set[str] = set()
    uses: list[BuildCacheUse] = []
    with Trust(settings.spack_buildcache_keys, unsigned=not choice.signed) as trust:
        for name, cache in _caches(spack):
            left = [node for node in wanted if node.hash not in had]
            shelf = Shelf(
                settings.remote_buildcaches_dir / name,
                cache,
                trust,
                lambda rows, package: describes(rows, package, lock.rows),
            )
            began = time.monotonic()
            taken = shelf.take(left) if left and _may_take(spack) else Taken()
            shelf.show(taken, left, spack.views / name)
            _write_index(spack.views / name, make_index(lock.rows, taken.payloads.keys()))
            _warn(spack, cache, taken)
            had |= taken.payloads.keys()
            seconds = round(time.monotonic() - began, 1)
            uses.append(
                BuildCacheUse(
                    url=cache.shown,
                    wanted=len(left),
                    taken=len(taken.payloads),
                    refused=len(taken.refused),
                    seconds=seconds,
                )
            )
    for use in uses:
        spack.job.reporter.buildcache(use.url, use.taken, use.wanted)
    return RemotePackages(frozenset(had), tuple(uses))


def _may_take(spack: Spack) -> bool:
    return not spack.choice.signed or spack.job.settings.spack_buildcache_keys is not None


def _caches(spack: Spack) -> list[tuple[str, Cache]]:
    """Build caches elsewhere with the names of their directories."""
    timeout = spack.job.settings.download_timeout
    names = spack.choice.remote_buildcaches
    urls = spack.choice.buildcaches
    return [(name, cache_at(url, timeout)) for name, url in zip(names, urls, strict=True)]


def _index_of(spack: Spack, cache: Cache) -> bytes:
    with tempfile.TemporaryDirectory(dir=spack.work) as folder:
        try:
            content = cache.index(Path(folder))
            listed_in(content)
        except MissingError:
            why = "it has no index."
        except TransferError as error:
            why = f"{error}."
        except UNREADABLE:
            why = "its index is damaged."
        else:
            return content
    spack.job.reporter.warning(
        f"The build cache {cache.shown} does not influence what Spack decides: {why}"
    )
    return EMPTY


def _warn(spack: Spack, cache: Cache, taken: Taken) -> None:
    reporter = spack.job.reporter
    if taken.failure:
        reporter.warning(
            f"The build cache {cache.shown} cannot be used: {taken.failure}. What it does not give"
            " is built from source."
        )
    if taken.refused:
        reasons = [f"{label} is {why}" for label, why in sorted(taken.refused.items())]
        more = len(reasons) - REASONS_SHOWN
        shown = ", ".join(reasons[:REASONS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        for reason in reasons:
            reporter.line(f"Refused: {reason}")
        reporter.warning(f"Not taken from the build cache {cache.shown}: {shown}.")


def _write_index(view: Path, content: bytes) -> None:
    manifest, checksum = index_entry(content)
    with file_errors(view):
        for path, text in ((blob_path(checksum), content), (INDEX, manifest)):
            place = view / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text)
