"""Where the files of a build cache are: a directory, a web server, or an S3 bucket."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from slurm_factory.fetch.http import (
    MissingError,
    TransferError,
    TransientError,
    UnreachableError,
    new_session,
    open_url,
    with_retries,
)
from slurm_factory.util.documents import open_regular
from slurm_factory.util.files import atomic_write

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import PurePosixPath

    import requests

    from slurm_factory.fetch.bucket import Bucket
    from slurm_factory.fetch.http import Body

CHUNK = 1 << 20


class TooLargeError(TransferError):
    """A file is larger than anything that belongs there."""


class Place(Protocol):
    """Files by their paths; all methods raise `TransferError` for a failure."""

    def download(self, path: PurePosixPath | str, target: Path, limit: int) -> None:
        """Copy a file to `target` (host), if it has at most `limit` bytes; MissingError: none."""

    def upload(self, path: PurePosixPath | str, source: Path) -> None:
        """Write or replace a file; readers see the old one or the whole new one."""

    def has(self, path: PurePosixPath | str, size: int) -> bool:
        """Whether there is a file of this size."""

    def names(self, folder: str) -> list[str]:
        """Paths of all files below a directory."""


def read(place: Place, path: PurePosixPath | str, folder: Path, limit: int) -> bytes:
    """Content of a file, by way of a directory (host); raises as `Place.download` does."""
    target = folder / f"download-{secrets.token_hex(4)}"
    try:
        place.download(path, target, limit)
        return target.read_bytes()
    finally:
        target.unlink(missing_ok=True)


def place_of(url: str, timeout: float) -> Place:
    """The place that a URL names.

    Args:
        url: `file://`, `http://`, `https://` or `s3://`.
        timeout: Seconds without data after which a transfer counts as aborted.
    """
    match urlsplit(url).scheme:
        case "file":
            return Directory(Path(unquote(urlsplit(url).path)))
        case "s3":
            return BucketPlace(url, timeout)
        case _:
            return WebServer(url.rstrip("/"), timeout)


@dataclass(frozen=True)
class Directory:
    """A directory of this machine, or of a file server."""

    root: Path

    def download(self, path: PurePosixPath | str, target: Path, limit: int) -> None:
        """As `Place` says."""
        if not self.root.is_dir():
            raise UnreachableError("there is no such directory")
        with _reading():
            file = open_regular(self.root / path)
        with file, target.open("wb") as copy:
            if os.fstat(file.fileno()).st_size > limit:
                raise TooLargeError("it is too large")
            while chunk := _chunk(file):
                copy.write(chunk)

    def upload(self, path: PurePosixPath | str, source: Path) -> None:
        """As `Place` says."""
        place = self.root / path
        with _system_errors():
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(place) as file, source.open("rb") as content:
                while chunk := content.read(CHUNK):
                    file.write(chunk)

    def has(self, path: PurePosixPath | str, size: int) -> bool:
        """As `Place` says."""
        place = self.root / path
        with _system_errors():
            return place.is_file() and place.stat().st_size == size

    def names(self, folder: str) -> list[str]:
        """As `Place` says."""
        with _system_errors():
            found = (self.root / folder).rglob("*")
            return [str(path.relative_to(self.root)) for path in found if path.is_file()]


@dataclass(frozen=True)
class WebServer:
    """A web server, which is only read."""

    url: str
    timeout: float

    @cached_property
    def _session(self) -> requests.Session:
        return new_session()

    def download(self, path: PurePosixPath | str, target: Path, limit: int) -> None:
        """As `Place` says."""

        def copy() -> None:
            with open_url(self._session, f"{self.url}/{path}", 0, self.timeout) as body:
                copy_body(body, target, limit)

        with_retries(copy)

    def upload(self, path: PurePosixPath | str, source: Path) -> None:
        """Fails always."""
        del path, source
        raise TransferError("a web server takes no files")

    def has(self, path: PurePosixPath | str, size: int) -> bool:
        """Fails always."""
        del path, size
        raise TransferError("a web server does not list its files")

    def names(self, folder: str) -> list[str]:
        """Fails always."""
        del folder
        raise TransferError("a web server does not list its files")


@dataclass(frozen=True)
class BucketPlace:
    """A bucket of S3, or a part of one."""

    url: str
    timeout: float

    @cached_property
    def _bucket(self) -> Bucket:
        from slurm_factory.fetch.bucket import Bucket  # noqa: PLC0415  # slow, and few need it

        return Bucket(self.url, self.timeout)

    def download(self, path: PurePosixPath | str, target: Path, limit: int) -> None:
        """As `Place` says."""

        def copy() -> None:
            with self._bucket.open(str(path)) as body:
                copy_body(body, target, limit)

        with_retries(copy)

    def upload(self, path: PurePosixPath | str, source: Path) -> None:
        """As `Place` says."""
        with_retries(lambda: self._bucket.upload(str(path), source))

    def has(self, path: PurePosixPath | str, size: int) -> bool:
        """As `Place` says."""
        return with_retries(lambda: self._bucket.has(str(path), size))

    def names(self, folder: str) -> list[str]:
        """As `Place` says."""
        return with_retries(lambda: self._bucket.names(folder))


def copy_body(body: Body, target: Path, limit: int) -> None:
    """Copy an answer to `target` (host), if it has at most `limit` bytes.

    Raises:
        TransferError: It is too large, or did not come.
    """
    if (body.total or 0) > limit:
        raise TooLargeError("it is too large")
    with target.open("wb") as file:
        for chunk in body.chunks:
            file.write(chunk)
            if file.tell() > limit:
                raise TooLargeError("it is too large")


def _chunk(file: BufferedReader) -> bytes:
    with _reading():
        return file.read(CHUNK)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError("it is not there") from error
    except OSError as error:
        raise TransferError((error.strerror or str(error)).lower()) from error


@contextmanager
def _system_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransientError((error.strerror or str(error)).lower()) from error
