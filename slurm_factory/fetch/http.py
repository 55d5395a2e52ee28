"""The content of one URL from an offset, or the reason why it cannot be fetched."""

import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests import exceptions
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from slurm_factory.constants import APPLICATION

T = TypeVar("T")

ATTEMPTS: Final = 4
FIRST_PAUSE = 0.5
LONGEST_PAUSE: Final = 8.0
CONNECT_TIMEOUT: Final = 10.0
CHUNK: Final = 1 << 16
SLOWEST: Final = 1000
"""Bytes a second: what is slower counts as aborted."""
PATIENCE = 60.0
"""Seconds over which that is measured."""
TRANSIENT_STATUS: Final = frozenset({408, 429})
FORBIDDEN: Final = frozenset({401, 403})
GONE: Final = frozenset({404, 410})
NO_SUCH_PART: Final = "the server has no such part of the file"
SYSTEM_CA_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
)


class TransferError(Exception):
    """A URL does not serve the file, and another try would not help.

    `str()` is the reason, in a few words that continue a sentence.
    """


class UnreachableError(TransferError):
    """The host cannot be reached; other paths on it would fail too."""


class TransientError(TransferError):
    """Another try may succeed."""


class MissingError(TransferError):
    """It is not there."""


class DeniedError(UnreachableError):
    """The server wants other credentials, or none will do."""


class LoginFileError(DeniedError):
    """The user's file with credentials is broken."""


class NoSuchPartError(TransientError):
    """The server does not continue from the requested offset."""


def with_retries(action: Callable[[], T], warn: Callable[[str], None] | None = None) -> T:
    """Do a transfer, again after a pause if that may help.

    Args:
        action: Raises a `TransientError` for a failure that may pass.
        warn: Called with the reason of each failure after which it is done again.

    Raises:
        TransferError: As `action` raised it the last time.
    """

    def tell(state: RetryCallState) -> None:
        if warn and state.outcome:
            warn(str(state.outcome.exception()))

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        before_sleep=tell,
        reraise=True,
    )
    return retrying(action)


@dataclass(frozen=True)
class Body:
    """An answer: the bytes from offset `start` of a file of `total` bytes (None: unknown).

    Attributes:
        version: What the server knows this content by; empty if it does not tell.
    """

    chunks: Iterator[bytes]
    start: int
    total: int | None
    version: str = ""


def new_session() -> requests.Session:
    """An HTTP session that uses the proxies of the environment (`https_proxy`, `no_proxy`) and
    trusts the CA certificates of requests, of the system's store and of the environment
    (`REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`, `SSL_CERT_DIR`)."""
    session = requests.Session()
    session.headers["User-Agent"] = APPLICATION
    session.mount("https://", _SystemTrust())
    return session


@contextmanager
def open_url(session: requests.Session, url: str, offset: int, timeout: float) -> Iterator[Body]:
    """The content of a URL.

    Args:
        session: Made by `new_session`.
        url: `https://`, `http://` or `file://` (a path on the host).
        offset: Bytes that are there already. The answer may still start at 0.
        timeout: Seconds without data after which the transfer counts as aborted.

    Raises:
        TransferError: The content cannot be fetched; also raised while its chunks are read.
    """
    if urlsplit(url).scheme == "file":
        with _local_file(Path(unquote(urlsplit(url).path))) as file:
            yield Body(_read(file), 0, os.fstat(file.fileno()).st_size)
        return
    # Some servers label .tar.gz as compressed content: do not unpack it on the way.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    timeouts = (CONNECT_TIMEOUT, timeout)
    try:
        response = session.get(url, headers=headers, stream=True, timeout=timeouts)
    except exceptions.RequestException as error:
        raise classified(error, timeouts) from error
    # requests passes on what urllib3 says of an impossible host name.
    except urllib3.exceptions.HTTPError as error:
        raise TransferError(f"the URL cannot be used: {error}") from error
    with response:
        yield body_of(response, offset)


def body_of(response: requests.Response, offset: int) -> Body:
    """The content of an answer to a request for all from an offset.

    Raises:
        TransferError: It has none; also raised while its chunks are read.
    """
    status = response.status_code
    if status == requests.codes.partial_content and not _continues(response, offset):
        raise NoSuchPartError(NO_SUCH_PART)
    if failure := status_error(response):
        raise failure
    start = offset if status == requests.codes.partial_content else 0
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    return Body(_received(response), start, total)


def status_error(response: requests.Response) -> TransferError | None:
    """The error for an answer's status, if it is not a success."""
    status = response.status_code
    if status in {200, 206}:
        return None
    reason = f"HTTP {status} {response.reason}".rstrip()
    if status in GONE:
        return MissingError(reason)
    if status == requests.codes.requested_range_not_satisfiable:
        return NoSuchPartError(NO_SUCH_PART)
    transient = status >= requests.codes.server_error or status in TRANSIENT_STATUS
    return TransientError(reason) if transient else TransferError(reason)


def _continues(response: requests.Response, offset: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _received(response: requests.Response) -> Iterator[bytes]:
    began, received = time.monotonic(), 0
    try:
        # One read from the connection at a time: each byte that comes starts its time limit anew.
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            yield chunk
            received += len(chunk)
            seconds = time.monotonic() - began
            if seconds > PATIENCE:
                if received < seconds * SLOWEST:
                    raise TransientError(f"it sends less than {SLOWEST} bytes a second")
                began, received = time.monotonic(), 0
    except urllib3.exceptions.ReadTimeoutError as error:
        raise TransientError("no more bytes came") from error
    except urllib3.exceptions.HTTPError as error:
        raise TransientError("the connection was lost") from error


def _local_file(path: Path) -> BinaryIO:
    with _local_errors():
        return path.open("rb")


def _read(file: BinaryIO) -> Iterator[bytes]:
    with _local_errors():
        while chunk := file.read(CHUNK):
            yield chunk


_REASONS: Final[tuple[tuple[type[Exception], type[TransferError], str], ...]] = (
    (
        exceptions.SSLError,
        UnreachableError,
        "the server's certificate is not trusted: {root} (update-ca-certificates adds your own CA)",
    ),
    (exceptions.ProxyError, UnreachableError, "the proxy refused the connection: {root}"),
    (
        exceptions.ConnectTimeout,
        UnreachableError,
        "no connection within {connect:g} s",
    ),
    (exceptions.Timeout, TransientError, "no answer within {read:g} s"),
    (exceptions.ConnectionError, TransientError, "the connection was lost"),
    (exceptions.ChunkedEncodingError, TransientError, "the connection was lost"),
)
"""The first match counts: some of these are subclasses of later ones."""


def classified(error: exceptions.RequestException, timeouts: tuple[float, float]) -> TransferError:
    """The meaning of an error of requests, in a few words.

    Args:
        error: The error of a request.
        timeouts: The limits of the request: seconds to connect, seconds without data.
    """
    connect, read = timeouts
    if _never_connected(error):
        return UnreachableError(f"no connection: {_root(error)}")
    for kind, failure, reason in _REASONS:
        if isinstance(error, kind):
            return failure(reason.format(root=_root(error), connect=connect, read=read))
    return TransferError(_lower_first(str(error)))


def _never_connected(error: exceptions.RequestException) -> bool:
    """requests distinguishes a refused connection from a lost one only by the wrapped error."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _root(error: BaseException) -> str:
    """The system's message at the end of a chain of wrapped errors."""
    below = error.__cause__ or error.__context__
    if below:
        return _root(below)
    verify_message = getattr(error, "verify_message", None)
    return _lower_first(verify_message or getattr(error, "strerror", None) or str(error))


@contextmanager
def _local_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransferError(_lower_first(error.strerror or str(error))) from error


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


class _SystemTrust(HTTPAdapter):
    """A site's own CA is usually only in the system's store, which requests does not use."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=_system_trust())

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=_system_trust())


@cache
def _system_trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    for bundle in SYSTEM_CA_BUNDLES:
        with suppress(OSError):
            context.load_verify_locations(bundle)
    return context
