"""Files in a bucket of S3, or of a server that speaks its protocol, by obstore.

Each request is made once: whoever asks decides whether to try again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain
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
from obstore.store import S3Store

from slurm_factory.constants import APPLICATION
from slurm_factory.fetch.http import (
    CONNECT_TIMEOUT,
    Body,
    DeniedError,
    MissingError,
    TransferError,
    TransientError,
    UnreachableError,
)
from slurm_factory.output.text import shown

if TYPE_CHECKING:
    from pathlib import Path

    from obstore import GetOptions, UpdateVersion

T = TypeVar("T")

CHUNK = 1 << 20
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
DEFAULT_REGION = "us-east-1"
STATUS = re.compile(r"status code: (\d{3}[\w ]*)")
CODE = re.compile(r"<Code>(\w+)</Code>")
NO_CONNECTION = re.compile(r"HttpError \{\s+kind: Connect,")
SYSTEM_MESSAGE = re.compile(r'\b(?:message|error): "([^"]+)"')
"""In the library's history of an error."""
UNUSABLE_SETTING = "Generic Config error: "
NO_BUCKET = "NoSuchBucket"
INSTANCE_METADATA = "169.254.169.254"
LONGEST_REQUEST = timedelta(hours=2)
"""Of one file, as long as something comes."""
RETRY = timedelta(seconds=30)
RETRIES = 1
"""Within one request, for a connection that was kept and has gone since."""
DENIED = ("401", "403")


class ChangedError(TransferError):
    """A file is not as it was any more."""


class NoBucketError(MissingError):
    """There is no such bucket."""


class Bucket:
    """A bucket, or a part of one. Its methods raise `TransferError`.

    Credentials, region and server are those of the environment (`AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …) or of the machine in the cloud.

    Args:
        url: `s3://<bucket>` or `s3://<bucket>/<path>`.
        timeout: Seconds without data after which a transfer counts as aborted.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout

    @contextmanager
    def open(self, path: str, offset: int = 0) -> Iterator[Body]:
        """A file from an offset; MissingError: there is none."""
        options: GetOptions | None = {"range": {"offset": offset}} if offset else None
        found = self._ask(lambda store: obstore.get(store, path, options=options))
        size, version = found.meta["size"], found.meta["e_tag"] or ""
        yield Body(_chunks(found), offset, size, version)

    def write(self, path: str, content: bytes, version: str | None) -> None:
        """Write a small file if it is still of a version (None: if there is none).

        Raises:
            ChangedError: It is not.
        """
        mode: Literal["create"] | UpdateVersion
        mode = "create" if version is None else {"e_tag": version}
        self._ask(lambda store: obstore.put(store, path, content, mode=mode))

    def upload(self, path: str, source: Path) -> None:
        """Write or replace a file; readers see the old one or the whole new one."""
        self._ask(lambda store: obstore.put(store, path, source))

    def has(self, path: str, size: int) -> bool:
        """Whether there is a file of this size: a file appears when it is complete."""
        try:
            return self._ask(lambda store: obstore.head(store, path))["size"] == size
        except MissingError:
            return False

    def delete(self, path: str) -> None:
        """Remove a file, if there is one."""
        self._ask(lambda store: obstore.delete(store, path))

    def names(self, folder: str, older_than: float = 0) -> list[str]:
        """Paths of all files below a directory that are as old, in seconds."""
        files = self._ask(lambda store: list(chain.from_iterable(obstore.list(store, folder))))
        if not older_than:
            return [file["path"] for file in files]
        newest = datetime.now(UTC) - timedelta(seconds=older_than)
        return [file["path"] for file in files if file["last_modified"] < newest]

    def _ask(self, request: Callable[[S3Store], T]) -> T:
        with _errors():
            store = self._store
            return _wait(lambda: request(store))

    @cached_property
    def _store(self) -> S3Store:
        parts = urlsplit(self._url)
        endpoint = _set(ENDPOINTS)
        if endpoint and not re.fullmatch(r"https?://[^/\s]+\S*", endpoint):
            # The library would panic.
            raise TransferError("AWS_ENDPOINT_URL has no URL such as https://HOST")
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            region=_set(REGIONS) or DEFAULT_REGION,
            client_options={
                # Only where somebody has named such an endpoint.
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT),
                "read_timeout": timedelta(seconds=self._timeout),
                "timeout": LONGEST_REQUEST,
                "user_agent": APPLICATION,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY},
            config={"endpoint": endpoint} if endpoint else {},
        )


def _set(names: tuple[str, ...]) -> str:
    """Value of the first of these variables that is set."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


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
        finally:
            # After any other error: nobody may wait for ever. It leaves an answer as it is.
            answer.cancel()

    Thread(target=ask, daemon=True).start()
    return answer.result()


@contextmanager
def _errors() -> Iterator[None]:
    """What the library raises has its whole history in its text."""
    try:
        yield
    except FileNotFoundError as error:
        code = CODE.search(str(error))
        if code and code[1] == NO_BUCKET:
            raise NoBucketError(f"there is no such bucket ({NO_BUCKET})") from error
        raise MissingError("it is not there") from error
    except (PreconditionError, AlreadyExistsError) as error:
        raise ChangedError("another publisher was first") from error
    except NotSupportedError as error:
        raise TransferError("the server has no conditional writes") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise DeniedError(_reason(str(error))) from error
    except (BaseError, ValueError) as error:
        raise _classified(str(error)) from error


def _classified(text: str) -> TransferError:
    if INSTANCE_METADATA in text:
        return DeniedError("there are no credentials, and this machine is no instance of AWS")
    if UNUSABLE_SETTING in text:
        what = text.partition("\n")[0].partition(UNUSABLE_SETTING)[2]
        return TransferError(f"a variable of AWS cannot be used: {what}")
    if NO_CONNECTION.search(text):
        told = SYSTEM_MESSAGE.findall(text)
        server = shown(_set(ENDPOINTS)) or "AWS (AWS_ENDPOINT_URL names another server)"
        why = (told or ["the request failed"])[-1].lower()
        return UnreachableError(f"no connection to {server}: {why}")
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
