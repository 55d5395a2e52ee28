"""A store of files behind a web server, to fetch from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import requests

from slurm_factory.fetch.http import (
    CONNECT_TIMEOUT,
    FORBIDDEN,
    Body,
    DeniedError,
    MissingError,
    TransferError,
    body_of,
    classified,
    new_session,
)
from slurm_factory.stores.index import INDEX, LARGEST_INDEX
from slurm_factory.stores.store import Seen

if TYPE_CHECKING:
    from slurm_factory.package.manifest import File
    from slurm_factory.stores.index import StoredPackage

MOST_REDIRECTS = 5


class HttpStore:
    """A store of files, by its URL."""

    login = "Give the server's user and password in ~/.netrc, or ask its owner."

    def __init__(self, url: str, shown: str, timeout: float) -> None:
        self.shown = shown
        self._url = url.rstrip("/")
        self._timeouts = (CONNECT_TIMEOUT, timeout)
        self._session = new_session()
        self._session.max_redirects = MOST_REDIRECTS

    def index(self) -> Seen:
        """As `Store.index`."""
        with self._open(INDEX, 0) as body:
            return Seen(read_whole(body))

    @contextmanager
    def get(self, package: StoredPackage, file: File, offset: int) -> Iterator[Body]:
        """As `Store.get`."""
        with self._open(f"{package.directory}/{file.name}", offset) as body:
            yield body

    @contextmanager
    def _open(self, path: str, offset: int) -> Iterator[Body]:
        # A + means a blank to some servers.
        url = f"{self._url}/{quote(path, safe='/~')}"
        # An index of before would be of no use.
        headers = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            response = self._session.get(url, headers=headers, stream=True, timeout=self._timeouts)
        except requests.TooManyRedirects as error:
            raise TransferError(f"it redirects more than {MOST_REDIRECTS} times") from error
        except requests.RequestException as error:
            raise classified(error, self._timeouts) from error
        with response:
            reason = f"HTTP {response.status_code} {response.reason}".rstrip()
            if response.status_code in FORBIDDEN:
                raise DeniedError(reason)
            if response.status_code == requests.codes.not_found:
                raise MissingError(f"{reason}: {path}")
            yield body_of(response, offset)


def read_whole(body: Body) -> bytes:
    """A small document.

    Raises:
        TransferError: It is too large, or did not come.
    """
    parts, received = [], 0
    for chunk in body.chunks:
        received += len(chunk)
        if received > LARGEST_INDEX:
            raise TransferError(f"its index has more than {LARGEST_INDEX >> 20} MiB")
        parts.append(chunk)
    return b"".join(parts)
