"""A store of files in a bucket. The server decides between publishers: conditional writes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store as Bucket

from slurm_factory.constants import APPLICATION
from slurm_factory.fetch.http import CONNECT_TIMEOUT, Body, TransferError, TransientError
from slurm_factory.stores.http import read_whole
from slurm_factory.stores.index import INDEX
from slurm_factory.stores.store import DeniedError, MissingError, Seen

if TYPE_CHECKING:
    from obstore import GetOptions, UpdateVersion

    from slurm_factory.package.manifest import File
    from slurm_factory.stores.index import StoredPackage

T = TypeVar("T")

CHUNK = 1 << 20
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
DEFAULT_REGION = "us-east-1"
STATUS = re.compile(r"status code: (\d{3}[\w ]*)")
CODE = re.compile(r"<Code>(\w+)</Code>")
INSTANCE_METADATA = "169.254.169.254"
LONGEST_REQUEST = timedelta(hours=2)
"""Of one file, as long as something comes."""
RETRY = timedelta(seconds=30)
RETRIES = 1
"""Within one request; whoever asks tries again, too."""
DENIED = ("401", "403")


class S3Store:
    """A bucket, or a part of one; credentials and endpoint are in the variables of AWS's tools."""

    login = (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may, or"
        " AWS_SKIP_SIGNATURE=true to read a public bucket."
    )

    def __init__(self, url: str, shown: str, timeout: float) -> None:
        parts = urlsplit(url)
        endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
        self.shown = shown
        self._bucket = Bucket(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            region=next((os.environ[n] for n in REGIONS if os.environ.get(n)), DEFAULT_REGION),
            client_options={
                # Only where somebody has named such an endpoint.
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT),
                "read_timeout": timedelta(seconds=timeout),
                "timeout": LONGEST_REQUEST,
                "user_agent": APPLICATION,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY},
            config={"endpoint": endpoint} if endpoint else {},
        )

    def index(self) -> Seen:
        """As `Store.index`."""
        with _errors():
            found = _wait(lambda: obstore.get(self._bucket, INDEX))
            body = Body(_chunks(found), 0, found.meta["size"])
        return Seen(read_whole(body), found.meta["e_tag"] or "")

    def index_to_replace(self) -> Seen:
        """As `Store.index_to_replace`."""
        try:
            return self.index()
        except MissingError as error:
            if "NoSuchBucket" in str(error):
                raise
            return Seen(None)

    def replace(self, content: bytes, seen: Seen, leaving: Collection[str] = ()) -> bool:
        """As `Store.replace`."""
        del leaving
        if seen.content is None:
            return self._write(content, "create")
        if self._write(content, {"e_tag": seen.version}):
            return True
        # Ceph 16 compares the tag of the request, in quotation marks, with its own without any.
        unquoted = seen.version.strip('"')
        same = self.index().version == seen.version != unquoted
        return same and self._write(content, {"e_tag": unquoted})

    def _write(self, content: bytes, mode: Literal["create"] | UpdateVersion) -> bool:
        try:
            with _errors():
                _wait(lambda: obstore.put(self._bucket, INDEX, content, mode=mode))
        except _OthersFirstError:
            return False
        return True

    def put(self, package: StoredPackage, directory: Path) -> None:
        """As `Store.put`."""
        with _errors():
            for file in package.all_files:
                path = f"{package.directory}/{file.name}"
                if not self._has(path, file):
                    _wait(partial(obstore.put, self._bucket, path, directory / file.name))

    @contextmanager
    def get(self, package: StoredPackage, file: File, offset: int) -> Iterator[Body]:
        """As `Store.get`."""
        path = f"{package.directory}/{file.name}"
        with _errors():
            options: GetOptions | None = {"range": {"offset": offset}} if offset else None
            found = _wait(lambda: obstore.get(self._bucket, path, options=options))
        yield Body(_chunks(found), offset, found.meta["size"])

    def discard(self, package: StoredPackage) -> None:
        """As `Store.discard`."""
        # The manifest goes first.
        for file in reversed(package.all_files):
            with _errors():
                path = f"{package.directory}/{file.name}"
                _wait(partial(obstore.delete, self._bucket, path))

    def _has(self, path: str, file: File) -> bool:
        """An upload appears when it is complete, and its path tells its checksum."""
        try:
            return _wait(lambda: obstore.head(self._bucket, path))["size"] == file.size
        except FileNotFoundError:
            return False


class _OthersFirstError(TransferError):
    """The object is not as it was any more."""


def _chunks(found: obstore.GetResult) -> Iterator[bytes]:
    stream = iter(found.stream(min_chunk_size=CHUNK))
    while True:
        with _errors():
            chunk = _wait(lambda: next(stream, None))
        if chunk is None:
            return
        yield bytes(chunk)


def _wait(request: Callable[[], T]) -> T:
    """The answer to a request. The library itself does not end with Ctrl-C while it waits."""
    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(request())
        except (BaseError, OSError, ValueError, TypeError) as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    return answer.result()


@contextmanager
def _errors() -> Iterator[None]:
    """What the library raises has its whole history in its text."""
    try:
        yield
    except FileNotFoundError as error:
        code = CODE.search(str(error))
        missing = "there is no such bucket (NoSuchBucket)"
        what = missing if code and code[1] == "NoSuchBucket" else "it is not there"
        raise MissingError(what) from error
    except (PreconditionError, AlreadyExistsError) as error:
        raise _OthersFirstError("another publisher was first") from error
    except NotSupportedError as error:
        raise TransferError("the server has no conditional writes") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise DeniedError(_reason(str(error))) from error
    except BaseError as error:
        raise _classified(str(error)) from error


def _classified(text: str) -> TransferError:
    if INSTANCE_METADATA in text:
        return DeniedError("there are no credentials, and this machine is no instance of AWS")
    reason = _reason(text)
    if reason.startswith(DENIED):
        return DeniedError(reason)
    if "NotImplemented" in reason:
        return TransferError("the server has no conditional writes")
    return TransientError(reason)


def _reason(text: str) -> str:
    """Such as `403 Forbidden (SignatureDoesNotMatch)`."""
    status, code = STATUS.search(text), CODE.search(text)
    if status:
        return status[1].strip() + (f" ({code[1]})" if code else "")
    first = text.partition("\n")[0].rpartition(" - ")[2]
    return f"the request failed: {first}"
