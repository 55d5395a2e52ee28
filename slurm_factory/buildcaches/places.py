"""Where the files of a build cache are: a directory, a web server, or an S3 bucket."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from slurm_factory.constants import APPLICATION
from slurm_factory.fetch.http import (
    CONNECT_TIMEOUT,
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

CHUNK = 1 << 20
ABSENT = ("HTTP 404", "HTTP 410")
"""Reasons of a `TransferError` that mean: it is not there."""
STATUS = re.compile(r"status code: (\d{3}[\w ]*)")
CODE = re.compile(r"<Code>(\w+)</Code>")
RETRIES = 3
RETRY = timedelta(seconds=30)
LONGEST_REQUEST = timedelta(hours=2)
"""Of one file, as long as something comes."""
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
DEFAULT_REGION = "us-east-1"


class AbsentError(TransferError):
    """There is no such file."""


class TooLargeError(TransferError):
    """A file is larger than anything that belongs there."""


class Place(Protocol):
    """Files by their paths; all methods raise `TransferError` for a failure."""

    def download(self, path: PurePosixPath | str, target: Path, limit: int) -> None:
        """Copy a file to `target` (host), if it has at most `limit` bytes; AbsentError: none."""

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
            return Bucket(url, timeout)
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
        url = f"{self.url}/{path}"
        with_retries(lambda: _copy(url, target, limit, self.timeout, self._session))

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


def _copy(url: str, target: Path, limit: int, timeout: float, session: requests.Session) -> None:
    try:
        with open_url(session, url, 0, timeout) as body, target.open("wb") as file:
            for chunk in body.chunks:
                file.write(chunk)
                if file.tell() > limit:
                    raise TooLargeError("it is too large")
    except TransferError as error:
        if str(error).startswith(ABSENT):
            raise AbsentError("it is not there") from error
        raise


@dataclass(frozen=True)
class Bucket:
    """A bucket of S3, or of a server that speaks its protocol.

    Credentials, region and server are those of the environment (`AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …) or of the machine in the cloud.
    """

    url: str
    timeout: float

    def download(self, path: PurePosixPath | str, target: Path, limit: int) -> None:
        """As `Place` says."""
        with self._errors():
            answer = self._store.get(str(path))
            if answer.meta["size"] > limit:
                raise TooLargeError("it is too large")
            with target.open("wb") as file:
                for chunk in answer.stream(CHUNK):
                    file.write(chunk)

    def upload(self, path: PurePosixPath | str, source: Path) -> None:
        """As `Place` says."""
        with self._errors():
            self._store.put(str(path), source)

    def has(self, path: PurePosixPath | str, size: int) -> bool:
        """As `Place` says."""
        try:
            with self._errors():
                return bool(self._store.head(str(path))["size"] == size)
        except AbsentError:
            return False

    def names(self, folder: str) -> list[str]:
        """As `Place` says."""
        with self._errors():
            return [row["path"] for rows in self._store.list(folder) for row in rows]

    @cached_property
    def _store(self) -> Any:
        from obstore.store import S3Store  # noqa: PLC0415  # slow, and few need it

        parts = urlsplit(self.url)
        endpoint = _set(ENDPOINTS)
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            region=_set(REGIONS) or DEFAULT_REGION,
            client_options={
                # Only where somebody has named such an endpoint.
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT),
                "read_timeout": timedelta(seconds=self.timeout),
                "timeout": LONGEST_REQUEST,
                "user_agent": APPLICATION,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY},
            config={"endpoint": endpoint} if endpoint else {},
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from obstore.exceptions import (  # noqa: PLC0415
            BaseError,
            PermissionDeniedError,
            UnauthenticatedError,
        )

        try:
            yield
        except FileNotFoundError as error:
            raise AbsentError("it is not there") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise UnreachableError("access is denied") from error
        except (BaseError, ValueError, OSError) as error:
            raise UnreachableError(_brief(error)) from error


def _set(names: tuple[str, ...]) -> str:
    """Value of the first of these variables that is set."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _brief(error: Exception) -> str:
    """Such as `403 Forbidden (SignatureDoesNotMatch)`; obstore tells its whole history."""
    text = str(error)
    status, code = STATUS.search(text), CODE.search(text)
    if status:
        return status[1].strip() + (f" ({code[1]})" if code else "")
    return f"the request failed: {text.partition(chr(10))[0].rpartition(' - ')[2]}"


def _chunk(file: BufferedReader) -> bytes:
    with _reading():
        return file.read(CHUNK)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise AbsentError("it is not there") from error
    except OSError as error:
        raise TransferError((error.strerror or str(error)).lower()) from error


@contextmanager
def _system_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransientError((error.strerror or str(error)).lower()) from error
