"""A store of files in a bucket. The server decides between publishers: conditional writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.fetch.bucket import Bucket, ChangedError, NoBucketError
from slurm_factory.fetch.http import Body, MissingError
from slurm_factory.stores.http import read_whole
from slurm_factory.stores.index import INDEX, names_files_of, parse_index
from slurm_factory.stores.store import STALE, Seen

if TYPE_CHECKING:
    from slurm_factory.package.manifest import File
    from slurm_factory.stores.index import StoredPackage


class S3Store:
    """A bucket, or a part of one; credentials and endpoint are in the variables of AWS's tools."""

    login = (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may, or"
        " AWS_SKIP_SIGNATURE=true to read a public bucket."
    )

    def __init__(self, url: str, shown: str, timeout: float) -> None:
        self.shown = shown
        self._bucket = Bucket(url, timeout)

    def index(self) -> Seen:
        """As `Store.index`."""
        with self._bucket.open(INDEX) as body:
            return Seen(read_whole(body), body.version)

    def index_to_replace(self) -> Seen:
        """As `Store.index_to_replace`."""
        try:
            return self.index()
        except NoBucketError:
            raise
        except MissingError:
            return Seen(None)

    def replace(self, content: bytes, seen: Seen, leaving: Collection[str] = ()) -> bool:
        """As `Store.replace`."""
        del leaving
        if seen.content is None:
            return self._write(content, None)
        if self._write(content, seen.version):
            return True
        # Ceph 16 compares the tag of the request, in quotation marks, with its own without any.
        unquoted = seen.version.strip('"')
        same = self.index().version == seen.version != unquoted
        return same and self._write(content, unquoted)

    def _write(self, content: bytes, version: str | None) -> bool:
        try:
            self._bucket.write(INDEX, content, version)
        except ChangedError:
            return False
        return True

    def put(self, package: StoredPackage, directory: Path) -> None:
        """As `Store.put`."""
        for file in package.all_files:
            path = f"{package.directory}/{file.name}"
            # The path tells the checksum.
            if not self._bucket.has(path, file.size):
                self._bucket.upload(path, directory / file.name)

    @contextmanager
    def get(self, package: StoredPackage, file: File, offset: int) -> Iterator[Body]:
        """As `Store.get`."""
        with self._bucket.open(f"{package.directory}/{file.name}", offset) as body:
            yield body

    def settle(self, package: StoredPackage, directory: Path) -> None:
        """As `Store.settle`."""
        self.put(package, directory)
        named = parse_index(self.index_to_replace().content, self.shown).find(package.stem)
        for path in self._bucket.names(str(package.directory.parent), older_than=STALE):
            if named is None or f"/{named.directory.name}/" not in path:
                self._bucket.delete(path)

    def discard(self, package: StoredPackage) -> None:
        """As `Store.discard`."""
        if names_files_of(package, self.index_to_replace().content, self.shown):
            return
        # The manifest goes first.
        for file in reversed(package.all_files):
            self._bucket.delete(f"{package.directory}/{file.name}")
