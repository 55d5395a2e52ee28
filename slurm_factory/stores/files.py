"""A store in a directory, and how a store of files is laid out for every other server of files.

index.json names the packages. Each lies in a directory of its own, whose name tells its content:
packages/<package>/<checksum>/. Nothing there ever changes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from slurm_factory.fetch.http import Body, DeniedError, MissingError, TransferError
from slurm_factory.package.publish import describe
from slurm_factory.stores.index import INDEX, LARGEST_INDEX, names_files_of, parse_index
from slurm_factory.stores.store import STALE, FullError, Seen
from slurm_factory.util.documents import open_regular
from slurm_factory.util.files import atomic_write

if TYPE_CHECKING:
    from slurm_factory.package.manifest import File
    from slurm_factory.stores.index import StoredPackage

CHUNK = 1 << 20
READABLE = 0o644
SEARCHABLE = 0o755


class FileStore:
    """A directory (host). Publishers lock it; for readers, renames make everything atomic."""

    login = "Ask the owner of that directory for permission."

    def __init__(self, root: Path, shown: str) -> None:
        self.root = root
        self.shown = shown

    def index(self) -> Seen:
        """As `Store.index`."""
        with _errors("read"):
            seen = self._seen()
        if seen.content is None:
            raise MissingError(f"there is no {self.root / INDEX}")
        return seen

    def index_to_replace(self) -> Seen:
        """As `Store.index_to_replace`; makes the directory, but not those above it.

        Of a share that is not mounted, they would fill the disk below it.
        """
        with _errors("written"):
            try:
                self.root.mkdir(exist_ok=True)
            except FileNotFoundError as error:
                reason = f"there is no directory {self.root.parent}; is its file system mounted?"
                raise MissingError(reason) from error
            return self._seen()

    def replace(self, content: bytes, seen: Seen, leaving: Collection[str] = ()) -> bool:
        """As `Store.replace`."""
        del leaving
        with _errors("written"), self._locked():
            if self._seen() != seen:
                return False
            with atomic_write(self.root / INDEX) as file:
                file.write(content)
        return True

    def put(self, package: StoredPackage, directory: Path) -> None:
        """As `Store.put`: copied beside its place, and renamed into it when it is complete."""
        place = self.root / package.directory
        with _errors("written"):
            if place.is_dir() and self._is_whole(package, place):
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
            try:
                for file in package.all_files:
                    _copy(directory / file.name, staging / file.name)
                staging.chmod(SEARCHABLE)
                with self._locked():
                    if place.exists():
                        place.rename(staging / ".damaged")
                    staging.rename(place)
                shutil.rmtree(place / ".damaged", ignore_errors=True)
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    @contextmanager
    def get(self, package: StoredPackage, file: File, offset: int) -> Iterator[Body]:
        """As `Store.get`."""
        with _errors("read"):
            source = open_regular(self.root / package.directory / file.name)
        with source:
            source.seek(offset)
            yield Body(_chunks(source), offset, os.fstat(source.fileno()).st_size)

    def discard(self, package: StoredPackage) -> None:
        """As `Store.discard`."""
        place = self.root / package.directory
        with _errors("written"):
            with self._locked():
                if names_files_of(package, self._seen().content, self.shown):
                    return
                _remove(place)
            with suppress(OSError):
                place.parent.rmdir()

    def settle(self, package: StoredPackage, directory: Path) -> None:
        """As `Store.settle`."""
        self.put(package, directory)
        oldest = time.time() - STALE
        above = (self.root / package.directory).parent
        with _errors("written"), self._locked():
            named = parse_index(self._seen().content, self.shown).find(package.stem)
            for place in [*above.iterdir()]:
                if (named is None or place.name != named.directory.name) and _age(place) < oldest:
                    _remove(place)

    def _seen(self) -> Seen:
        try:
            with open_regular(self.root / INDEX) as file:
                content = file.read(LARGEST_INDEX + 1)
        except FileNotFoundError:
            return Seen(None)
        if len(content) > LARGEST_INDEX:
            raise TransferError(f"its index has more than {LARGEST_INDEX >> 20} MiB")
        return Seen(content, hashlib.sha256(content).hexdigest())

    @staticmethod
    def _is_whole(package: StoredPackage, place: Path) -> bool:
        try:
            return all(describe(place / f.name).sha256 == f.sha256 for f in package.all_files)
        except OSError:
            return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _remove(place: Path) -> None:
    """A reader finds all of it, or nothing."""
    gone = place.with_name(f".old-{place.name.removeprefix('.old-')}")
    with suppress(FileNotFoundError):
        if place != gone:
            shutil.rmtree(gone, ignore_errors=True)
            place.rename(gone)
        shutil.rmtree(gone)


def _age(place: Path) -> float:
    """When somebody last wrote a directory, or a file in it."""
    newest = 0.0
    for path in (place, *place.glob("*")):
        # Its publisher may be removing it.
        with suppress(FileNotFoundError):
            newest = max(newest, path.lstat().st_mtime)
    return newest


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    with _errors("read"):
        while chunk := source.read(CHUNK):
            yield chunk


def _copy(source: Path, target: Path) -> None:
    with open_regular(source) as read, target.open("xb") as written:
        shutil.copyfileobj(read, written, CHUNK)
        written.flush()
        os.fchmod(written.fileno(), READABLE)
        os.fsync(written.fileno())


@contextmanager
def _errors(done: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(f"there is no {error.filename}") from error
    except OSError as error:
        named = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        reason = f"it cannot be {done}: {error.strerror or error}{named}"
        if done == "written":
            raise FullError(reason) from error
        denied = error.errno in {errno.EACCES, errno.EPERM}
        raise (DeniedError if denied else TransferError)(reason) from error
