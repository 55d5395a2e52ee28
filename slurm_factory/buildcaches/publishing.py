"""Publish the packages of a build to a build cache elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.buildcaches.caches import cache_at
from slurm_factory.buildcaches.layout import (
    SIGNED,
    Package,
    blob_path,
    entry_path,
    is_complete,
    is_whole,
    listed_in,
    make_index,
    parse_entry,
    read_description,
    read_index,
)
from slurm_factory.exceptions import SlurmFactoryError
from slurm_factory.fetch.http import MissingError, TransferError
from slurm_factory.package.gpg import sign_text
from slurm_factory.util.documents import read_bytes

if TYPE_CHECKING:
    from typing import Any

    from slurm_factory.buildcaches.caches import Cache
    from slurm_factory.buildcaches.layout import Entry
    from slurm_factory.job import Job
    from slurm_factory.package.manifest import SpackPackage

ATTEMPTS = 5
"""To write an index that has everything; each fails only if somebody else has just published."""


@dataclass(frozen=True)
class Published:
    """The packages that were new there, and the number of those that were there before."""

    new: tuple[str, ...]
    before: int


@dataclass(frozen=True)
class Publisher:
    """Publishes packages of a build cache of this machine.

    Attributes:
        local: The build cache of this machine (host); only this program writes to it.
        cache: The one elsewhere.
        key: Name of the user's key that signs the entries; empty: they are not signed.
    """

    local: Path
    cache: Cache
    key: str

    def publish(self, packages: Iterable[Package]) -> Published:
        """Add those of these packages that the local build cache has whole.

        The parts come first, then the entries, and the index at last: a reader sees the old state
        or the new one. An entry that somebody else has published stays, unless it is not signed and
        this one is.

        Raises:
            TransferError: The build cache elsewhere cannot be used.
            ConfigurationError: The key cannot sign.
        LXDError: gpg is missing, or its agent has no passphrase.
            OSError: A file of this machine cannot be read or written.
        """
        new, before = [], 0
        rows: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(prefix="slurm-factory-publish-") as name:
            folder = Path(name)
            for package, entry in self._entries(packages):
                for row in read_description(self.local / blob_path(entry.description.checksum)):
                    rows[row["hash"]] = row
                if self._is_there(package, folder):
                    before += 1
                else:
                    self._put(package, entry, folder)
                    new.append(package.label)
            update_index(self.cache, rows, folder)
        return Published(tuple(new), before)

    def _entries(self, packages: Iterable[Package]) -> Iterator[tuple[Package, Entry]]:
        for package in packages:
            try:
                entry = parse_entry(read_bytes(self.local / entry_path(package)))
            except (OSError, ValueError):
                # From a build cache elsewhere, or damaged since.
                continue
            if all(is_whole(self.local / blob_path(part.checksum)) for part in entry.parts):
                yield package, entry

    def _is_there(self, package: Package, folder: Path) -> bool:
        try:
            text = self.cache.entry(package, folder)
        except MissingError:
            return False
        return not self.key or text.lstrip().startswith(SIGNED)

    def _put(self, package: Package, entry: Entry, folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            blobs = {part.checksum: self.local / blob_path(part.checksum) for part in entry.parts}
            entry = self.cache.prepare(entry, blobs, Path(name))
            blobs |= {path.name: path for path in Path(name).iterdir()}
            text = sign_text(entry.text(), self.key) if self.key else entry.text()
            self.cache.put(package, entry, text, blobs)


def publish_packages(job: Job, packages: Iterable[SpackPackage]) -> None:
    """Publish the packages of a finished build, where the settings say so.

    A failure is a warning: the package that was asked for is finished, and the next build publishes
    what is missing.
    """
    settings, url = job.settings, job.settings.spack_buildcache_publish
    if url is None or job.plan.spack is None or job.offline:
        return
    local = settings.results_dir / job.plan.spack.local_buildcaches[0]
    cache = cache_at(url, settings.download_timeout)
    with job.reporter.step("Publish to the build cache"):
        try:
            done = Publisher(local, cache, settings.sign_key or "").publish(packages)
        except (TransferError, OSError) as error:
            job.reporter.warning(
                f"The packages were not published to the build cache {cache.shown}: {error}."
            )
        except SlurmFactoryError as error:
            job.reporter.warning(
                f"The packages were not published to the build cache {cache.shown}: {error.brief}"
                f" {error.details}"
            )
        else:
            signed = f"signed by {settings.sign_key}" if settings.sign_key else "not signed"
            job.reporter.note(
                f"Published {len(done.new)} packages to the build cache {cache.shown}, {signed};"
                f" {done.before} were there."
            )


def update_index(cache: Cache, rows: dict[str, Any], folder: Path) -> None:
    """Write an index of all packages that are there, unless the present one is right.

    Whoever publishes writes entries first, then lists them, then writes the index, then lists them
    again. So the last one to write has seen all entries, and nothing is lost.

    Args:
        cache: The build cache.
        rows: Packages by hash, with what they need, as far as they are known here.
        folder: Directory (host) for files.

    Raises:
        TransferError: It cannot be read or written, or others never stop publishing.
    """
    for _ in range(ATTEMPTS):
        available = cache.hashes()
        known, listed = _present(cache, folder)
        known |= rows
        unknown = {digest for digest in available if not is_complete(known, digest)}
        for description in cache.descriptions(unknown, folder) if unknown else ():
            known |= {row["hash"]: row for row in description}
        # What cannot be read cannot be described either.
        usable = {digest for digest in available if is_complete(known, digest)}
        if listed == usable:
            return
        cache.put_index(make_index(known, usable), folder)
    raise TransferError("others write its index all the time")


def _present(cache: Cache, folder: Path) -> tuple[dict[str, Any], set[str] | None]:
    """Rows and packages of the present index; none if there is none, or if it is damaged."""
    try:
        content = cache.index(folder)
        return read_index(content), set(listed_in(content))
    except MissingError:
        return {}, None
    except (TransferError, ValueError, KeyError, TypeError, AttributeError):
        return {}, None
