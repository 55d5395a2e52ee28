"""Take packages from a build cache elsewhere, each checked before anything uses it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from slurm_factory.buildcaches.layout import (
    LARGEST_ARCHIVE,
    LARGEST_DESCRIPTION,
    LARGEST_ENTRY,
    Entry,
    Package,
    Part,
    blob_path,
    entry_path,
    is_whole,
    parse_entry,
    read_description,
)
from slurm_factory.buildcaches.places import TooLargeError
from slurm_factory.buildcaches.signing import UntrustedError
from slurm_factory.fetch.http import (
    MissingError,
    TransferError,
    TransientError,
    UnreachableError,
)
from slurm_factory.util.documents import open_regular
from slurm_factory.util.files import NEARLY_FULL_BYTES, atomic_write, file_errors

if TYPE_CHECKING:
    from typing import Any

    from slurm_factory.buildcaches.caches import Cache
    from slurm_factory.buildcaches.signing import Trust

AT_ONCE = 8
Describes = Callable[["list[dict[str, Any]]", Package], bool]
"""Whether a description is that of a package."""


@dataclass
class Taken:
    """What a build cache had of the wanted packages.

    Attributes:
        payloads: The entries of the packages that can be used, by hash, without signatures.
        refused: Why others that are there cannot be used, by the label of the package.
        failure: Why the build cache does not answer; empty if it does.
    """

    payloads: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    failure: str = ""


class _RefusedError(Exception):
    """`str()` says why, as the end of a sentence."""


class _Space:
    """Free space for several downloads at once.

    Attributes:
        directory: Where they go (host).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = Lock()
        self._promised = 0

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Keep space for a file while the block runs."""
        with self._lock:
            free = shutil.disk_usage(self.directory).free - self._promised
            if size > free - NEARLY_FULL_BYTES:
                raise _RefusedError("too large for the free space")
            self._promised += size
        try:
            yield
        finally:
            with self._lock:
                self._promised -= size


@dataclass(frozen=True)
class Shelf:
    """Copies of what a build cache elsewhere had, so that no build fetches it again.

    No instance sees it. Entries are kept as they came, so that each build checks them by the keys
    that count then.

    Attributes:
        directory: Where they are (host), in the layout of a build cache.
        cache: The build cache.
        trust: Decides which entries count.
        describes: Decides whether a description is that of a package.
    """

    directory: Path
    cache: Cache
    trust: Trust
    describes: Describes

    def take(self, packages: Iterable[Package]) -> Taken:
        """Check and return what there is of these packages, here or there.

        Raises:
            OutputError: The copies cannot be written.
        """
        taken = Taken()
        with file_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            with (
                tempfile.TemporaryDirectory(dir=self.directory) as folder,
                ThreadPoolExecutor(AT_ONCE) as pool,
            ):
                space = _Space(Path(folder))
                list(pool.map(lambda each: self._take(each, space, taken), packages))
        return taken

    def show(self, taken: Taken, packages: Iterable[Package], view: Path) -> None:
        """Make a build cache of what was taken, for one instance.

        Args:
            taken: The packages.
            packages: All that were wanted.
            view: Its directory (host).

        Raises:
            OutputError: It cannot be written.
        """
        with file_errors(view):
            for package in packages:
                payload = taken.payloads.get(package.hash)
                if payload is None:
                    continue
                for part in parse_entry(payload).parts:
                    _link(self._blob(part), view / blob_path(part.checksum))
                place = view / entry_path(package)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(payload)

    def _take(self, package: Package, space: _Space, taken: Taken) -> None:
        try:
            payload = self._kept(package)
            if payload is None and not taken.failure:
                payload = self._fetched(package, space)
            if payload is not None:
                taken.payloads[package.hash] = payload
        except (_RefusedError, UntrustedError) as error:
            taken.refused[package.label] = str(error)
        except MissingError:
            return
        except (UnreachableError, TransientError) as error:
            # The others would fail, too, each after several attempts.
            taken.failure = str(error)
        except TransferError as error:
            taken.refused[package.label] = str(error)

    def _kept(self, package: Package) -> bytes | None:
        """The entry of a package whose copy is whole and counts today."""
        with suppress(OSError, ValueError, _RefusedError):
            with open_regular(self.directory / entry_path(package)) as file:
                payload = self.trust.payload(file.read(LARGEST_ENTRY))
            entry = parse_entry(payload)
            if all(is_whole(self._blob(part)) for part in entry.parts):
                self._require_described(entry, package)
                return payload
        return None

    def _fetched(self, package: Package, space: _Space) -> bytes:
        text = self.cache.entry(package, space.directory)
        payload = self.trust.payload(text)
        try:
            entry = parse_entry(payload)
        except ValueError as error:
            raise _RefusedError("damaged") from error
        # The description first: it is small, and says whether the rest is wanted.
        self._fetch(entry.description, LARGEST_DESCRIPTION, space)
        self._require_described(entry, package)
        self._fetch(entry.archive, LARGEST_ARCHIVE, space)
        place = self.directory / entry_path(package)
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as file:
            file.write(text)
        return payload

    def _fetch(self, part: Part, largest: int, space: _Space) -> None:
        place = self._blob(part)
        if is_whole(place):
            return
        if part.size > largest:
            raise _RefusedError("too large")
        # Unique: two packages may share a part.
        unpacked = Path(tempfile.mkdtemp(dir=space.directory)) / part.checksum
        try:
            with space.of(part.size):
                self.cache.download(part, unpacked)
        except MissingError as error:
            raise _RefusedError("incomplete") from error
        except TooLargeError as error:
            raise _RefusedError("damaged") from error
        if not is_whole(unpacked):
            raise _RefusedError("damaged")
        place.parent.mkdir(parents=True, exist_ok=True)
        unpacked.replace(place)

    def _require_described(self, entry: Entry, package: Package) -> None:
        try:
            rows = read_description(self._blob(entry.description))
        except (OSError, ValueError) as error:
            raise _RefusedError("damaged") from error
        if not self.describes(rows, package):
            raise _RefusedError("of another build")

    def _blob(self, part: Part) -> Path:
        return self.directory / blob_path(part.checksum)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        shutil.copyfile(source, target)
