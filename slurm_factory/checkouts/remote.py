"""One commit out of a git repository behind a URL, without its history (gitprotocol-http(5))."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import urllib3
from dulwich.client import AbstractHttpGitClient
from dulwich.errors import (
    FileFormatException,
    GitProtocolError,
    HangupException,
    NotGitRepository,
)
from dulwich.repo import Repo
from requests import Response, exceptions
from requests.utils import get_environ_proxies, select_proxy
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)
from typing_extensions import override

from slurm_factory.checkouts.refs import NoSuchRefError, find_ref
from slurm_factory.transfer import (
    TransferError,
    TransientError,
    UnreachableError,
    classified,
    new_session,
    status_error,
)

if TYPE_CHECKING:
    from dulwich.objects import ObjectID

RESOLVE_SECONDS: Final = 4.0
CONNECT_SECONDS: Final = 4.0
ANSWER_SECONDS: Final = 7.0
"""For the first answer; with the others less than the 10 s in which a wrong URL must be told."""
ATTEMPTS: Final = 4
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 8.0
ADVERTISEMENT: Final = "application/x-git-upload-pack-advertisement"

T = TypeVar("T")


@contextmanager
def fetched(
    url: str, ref: str, directory: Path, timeout: float, warn: Callable[[str], None]
) -> Iterator[tuple[Repo, ObjectID]]:
    """A repository with the one commit that `ref` names, and its object there.

    Proxies, CA certificates and ~/.netrc are used as in every other download.

    Args:
        url: http or https; may contain user name and password.
        ref: Tag, branch, or a commit in full where the server gives single commits.
        directory: Where to make the repository (host); must not exist.
        timeout: Seconds without a byte after which the transfer is tried again.
        warn: Told the reason why a transfer is tried again.

    Raises:
        TransferError: It cannot be had.
        NoSuchRefError: There is no such ref.
    """
    _require_address(url)
    with Repo.init_bare(str(directory), mkdir=True) as repository, closing(_Client(url)) as client:
        refs = _patiently(client.known_refs, warn)
        wanted = find_ref(ref, refs)
        client.seconds = timeout
        try:
            _patiently(lambda: client.bring(wanted, repository), warn)
        except TransientError as error:
            if wanted in refs.values():
                raise
            # A server that does not have a commit, or does not give it away, just hangs up.
            raise NoSuchRefError from error
        yield repository, wanted


def _patiently(action: Callable[[], T], warn: Callable[[str], None]) -> T:
    def tell(state: RetryCallState) -> None:
        warn(str(state.outcome.exception()) if state.outcome else "")

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        before_sleep=tell,
        reraise=True,
    )
    return retrying(action)


def _require_address(url: str) -> None:
    """Give up on a resolver without a network, which itself goes on for half a minute."""
    proxy = select_proxy(url, get_environ_proxies(url))
    host = urlsplit(proxy or url).hostname

    def resolve() -> None:
        with suppress(OSError):
            socket.getaddrinfo(host, None)

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(RESOLVE_SECONDS)
    if thread.is_alive():
        raise UnreachableError(f"no address of {host} within {RESOLVE_SECONDS:g} s")


class _Answer:
    """A response of requests as dulwich wants to see it."""

    def __init__(self, response: Response, asked: str) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.content_type = response.headers.get("Content-Type")
        self.redirect_location = response.url if response.url != asked else ""

    def geturl(self) -> str | None:
        return self._response.url

    def close(self) -> None:
        self._response.close()

    def read(self, amt: int | None = None) -> bytes:
        try:
            return bytes(self._response.raw.read(amt, decode_content=True))
        except urllib3.exceptions.HTTPError as error:
            raise TransientError("the connection broke off") from error


class _Client(AbstractHttpGitClient):
    """dulwich's client over the HTTP of all our downloads, which it lets subclasses choose."""

    def __init__(self, url: str) -> None:
        super().__init__(url, quiet=True)
        self._session = new_session()
        self.seconds = ANSWER_SECONDS
        """Without a byte, after which a transfer counts as broken off."""

    def close(self) -> None:
        """End all connections."""
        self._session.close()

    def known_refs(self) -> Mapping[bytes, bytes | None]:
        """All tags and branches.

        Raises:
            TransferError: It is no repository, or cannot be asked.
        """
        with _protocol_errors():
            try:
                return dict(self.get_refs("").refs.items())
            except TransientError as error:
                if isinstance(error.__cause__, exceptions.Timeout):
                    # Another try would take as long again.
                    raise UnreachableError(str(error)) from error
                raise

    def bring(self, wanted: ObjectID, repository: Repo) -> None:
        """Fetch one object and what it consists of.

        Raises:
            TransferError: It did not come.
        """
        with _protocol_errors():
            try:
                self.fetch("", repository, lambda *_, **__: [wanted], depth=1)
            except HangupException as error:
                raise TransientError("the connection broke off") from error

    @override
    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,
    ) -> tuple[_Answer, Callable[[int], bytes]]:
        body = data if data is None or isinstance(data, bytes) else b"".join(data)
        timeouts = (CONNECT_SECONDS, self.seconds)
        method = "GET" if body is None else "POST"
        try:
            response = self._session.request(
                method, url, headers=headers, data=body, stream=True, timeout=timeouts
            )
        except exceptions.RequestException as error:
            raise classified(error, timeouts) from error
        answer = _Answer(response, url)
        failure = status_error(response)
        if not failure and body is None and answer.content_type != ADVERTISEMENT:
            failure = TransferError("there is no git repository")
        if failure:
            response.close()
            raise failure
        return answer, answer.read


@contextmanager
def _protocol_errors() -> Iterator[None]:
    """What dulwich makes of answers that no git server gives."""
    try:
        yield
    except (GitProtocolError, NotGitRepository, FileFormatException, ValueError) as error:
        raise TransferError("what answers there is no git server") from error
