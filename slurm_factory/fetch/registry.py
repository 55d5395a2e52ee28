"""A repository of a registry of OCI images.

oras knows how registries authenticate, and where passwords are kept. Its own requests have no time
limits, wait for minutes between tries, and read each file into memory, so ours are here. Each is
made once: whoever asks decides whether to try again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import requests
from oras import logger
from oras.auth import get_auth_backend
from oras.auth.base import AuthBackend
from oras.auth.basic import BasicAuth
from oras.auth.utils import parse_auth_header
from oras.container import Container

from slurm_factory.fetch.http import (
    CONNECT_TIMEOUT,
    FORBIDDEN,
    Body,
    DeniedError,
    LoginFileError,
    MissingError,
    TransferError,
    body_of,
    classified,
    new_session,
    status_error,
)
from slurm_factory.output.text import visible
from slurm_factory.util.documents import parse_json
from slurm_factory.util.machine import is_loopback

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
WITHOUT_TLS = "oci+http"
"""Scheme of a registry without TLS, as Spack writes it."""
LARGEST_DOCUMENT = 16 << 20
"""In bytes; the specification asks registries to take manifests of 4 MiB."""
PAGE = 1000
MOST_PAGES = 1000
"""Of a list of tags: some registries make pages of a hundred."""
MOST_TAGS = 100_000
LONGEST_REASON = 200
NO_DELETION = 405
READING = ("GET", "HEAD")
BROKEN = (ValueError, KeyError, TypeError, AttributeError)
"""Errors of oras where an answer or a file is not as it expects."""


class Repository:
    """A repository. Its methods raise `TransferError`.

    Credentials are those of `docker login`, `podman login` or `oras login`. As Docker does, it
    speaks plain HTTP with a registry on this machine.

    Args:
        url: `oci://<host>/<name>` or `oci+http://…`.
        timeout: Seconds without data after which a transfer counts as aborted.
    """

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        plain = parts.scheme == WITHOUT_TLS or is_loopback(parts.hostname or "")
        self._host = parts.netloc
        self._scheme = "http" if plain else "https"
        self._api = f"{self._scheme}://{self._host}/v2/{parts.path.strip('/').lower()}/"
        self._timeouts = (CONNECT_TIMEOUT, timeout)
        self._lock = Lock()

    def manifest(self, tag: str) -> dict[str, Any]:
        """The manifest of a tag; MissingError: there is none."""
        return self.manifest_and_digest(tag)[0]

    def manifest_and_digest(self, tag: str) -> tuple[dict[str, Any], str]:
        """The manifest of a tag, and what it is called without one; MissingError: as above."""
        what = f"the manifest of {tag}"
        try:
            with self._ask(
                "GET", f"manifests/{tag}", {"Accept": MANIFEST_TYPE}, stream=True
            ) as answer:
                content = _content(answer, what)
        except MissingError as error:
            raise MissingError(f"there is no tag {tag}") from error
        return _parsed(content, what), f"sha256:{hashlib.sha256(content).hexdigest()}"

    def put_manifest(self, tag: str, document: dict[str, Any]) -> None:
        """Write a manifest and its tag; readers see the old one or the new one.

        Args:
            tag: The tag.
            document: The manifest without what is the same in all.
        """
        whole = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, **document}
        content = json.dumps(whole).encode()
        self._ask("PUT", f"manifests/{tag}", {"Content-Type": MANIFEST_TYPE}, content).close()

    def delete(self, digest: str) -> None:
        """Remove a manifest with all tags that it has now, if it is there."""
        try:
            self._ask("DELETE", f"manifests/{digest}").close()
        except MissingError:
            return

    def tags(self) -> list[str]:
        """All tags; none if there is no such repository yet."""
        found: list[str] = []
        query = f"n={PAGE}"
        asked: set[str] = set()
        while query:
            # Half a list would be taken for the whole.
            if query in asked or len(asked) == MOST_PAGES or len(found) > MOST_TAGS:
                raise TransferError("its list of tags has no end")
            asked.add(query)
            try:
                with self._ask("GET", f"tags/list?{query}", stream=True) as answer:
                    what = "its list of tags"
                    document = _parsed(_content(answer, what), what)
                    following = answer.links.get("next", {}).get("url", "")
            except MissingError:
                return found
            found += map(str, document.get("tags") or ())
            query = urlsplit(following).query
        return found

    @contextmanager
    def open(self, checksum: str, offset: int = 0) -> Iterator[Body]:
        """A blob from an offset; MissingError: there is none."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            answer = self._ask("GET", f"blobs/sha256:{checksum}", headers, stream=True)
        except MissingError as error:
            raise MissingError(f"there is no blob {checksum}") from error
        with answer:
            yield body_of(answer, offset)

    def upload(self, checksum: str, source: Path | bytes) -> None:
        """Write a blob, unless it is there."""
        try:
            self._ask("HEAD", f"blobs/sha256:{checksum}").close()
        except MissingError:
            self._upload(checksum, source)

    def _upload(self, checksum: str, source: Path | bytes) -> None:
        with self._ask("POST", "blobs/uploads/") as begun:
            place = _location(begun)
        if self._scheme == "https" and _origin(place)[0] != "https":
            raise TransferError("the registry wants the upload without TLS")
        place += f"{'&' if urlsplit(place).query else '?'}digest=sha256:{checksum}"
        kind = {"Content-Type": "application/octet-stream"}
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as data:
            self._ask("PUT", place, kind, data).close()

    def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        data: bytes | IO[bytes] | None = None,
        *,
        stream: bool = False,
    ) -> requests.Response:
        """The answer, which tells a success."""
        # Some servers compress what is compressed already.
        headers = {"Accept-Encoding": "identity"} | (headers or {})
        request = requests.Request(method, urljoin(self._api, path), headers, data=data)
        try:
            answer = self._send(request, stream=stream)
            if answer.status_code in FORBIDDEN:
                answer = self._send_logged_in(answer, request, stream=stream)
        except requests.TooManyRedirects as error:
            raise TransferError("it redirects in circles") from error
        except requests.RequestException as error:
            raise classified(error, self._timeouts) from error
        if not answer.ok:
            with answer:
                raise _failure(answer)
        return answer

    def _send(self, request: requests.Request, *, stream: bool) -> requests.Response:
        headers = dict(request.headers)
        # Uploads may go elsewhere, where the place itself tells that they are allowed.
        if _origin(request.url) == _origin(self._api):
            headers |= self._credentials()
        data = request.data
        if data and not isinstance(data, bytes):
            # What was refused may have read it.
            data.seek(0)
        return self._session.request(
            request.method, request.url, data=data, headers=headers, stream=stream
        )

    def _credentials(self) -> dict[str, str]:
        """What is sent without being asked: a password, or the last token."""
        known = "_basic_auth" if isinstance(self._auth, BasicAuth) else "token"
        return dict(self._auth.get_auth_header()) if getattr(self._auth, known, None) else {}

    def _send_logged_in(
        self, refused: requests.Response, request: requests.Request, *, stream: bool
    ) -> requests.Response:
        """The answer with a new token: the last one may have expired, or be for reading only."""
        if isinstance(self._auth, BasicAuth) and self._credentials():
            return refused
        if _origin(refused.url) != _origin(self._api):
            # Others do not choose who gets the password.
            return refused
        with self._lock:
            if "WWW-Authenticate" not in refused.headers and self._credentials():
                # Without a token, the registry tells which one it wants.
                self._auth.token = None
                refused.close()
                refused = self._send(request, stream=stream)
            try:
                self._require_safe_realm(refused)
                _, done = self._auth.authenticate_request(refused, {}, refresh=True)
            except BROKEN:
                done = False
            except (TransferError, requests.RequestException):
                refused.close()
                raise
        if not done:
            return refused
        refused.close()
        return self._send(request, stream=stream)

    def _require_safe_realm(self, refused: requests.Response) -> None:
        """Nobody on the way reads the password on its way to whoever gives tokens."""
        if not getattr(self._auth, "_basic_auth", None):
            return
        try:
            realm = parse_auth_header(refused.headers.get("WWW-Authenticate", "")).realm or ""
        except BROKEN:
            return
        # oras makes https of a realm without a scheme.
        if not realm.startswith("http"):
            return
        scheme, host, _ = _origin(realm)
        own = self._scheme == "http" and host == _origin(self._api)[1]
        if scheme != "https" and not own and not is_loopback(host):
            raise DeniedError(f"the registry wants the password without TLS at {visible(host)}")

    @cached_property
    def _session(self) -> requests.Session:
        session = new_session()
        session.hooks["response"].append(_limited)
        session.request = partial(  # type: ignore[method-assign]
            session.request, timeout=self._timeouts
        )
        return session

    @cached_property
    def _auth(self) -> AuthBackend:
        """Registries with a password file want the password itself, others a token for it."""
        logger.setup_logger(quiet=True)
        asked = self._session.get(f"{self._scheme}://{self._host}/v2/")
        basic = asked.headers.get("WWW-Authenticate", "").lower().startswith("basic")
        auth = get_auth_backend(
            "basic" if basic else "token", self._session, insecure=self._scheme == "http"
        )
        try:
            auth.load_configs(Container("any/any", registry=self._host))
        except (OSError, *BROKEN) as error:
            raise LoginFileError(f"~/.docker/config.json cannot be used: {error}") from error
        return auth


def _origin(url: str) -> tuple[str, str, int | None]:
    """Who answers at a URL: scheme, host and port."""
    with suppress(ValueError):
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname or "", port
    return "", "", None


def _location(begun: requests.Response) -> str:
    """Where an upload goes."""
    place = begun.headers.get("Location")
    try:
        if place:
            return urljoin(begun.url, place)
    except ValueError:
        place = None
    raise TransferError("the registry does not tell where to upload")


def _limited(answer: requests.Response, **_: Any) -> requests.Response:
    """An answer whose content, where it is read as a whole, has a limit; oras knows none."""
    source, target = answer.url, urljoin(answer.url, answer.headers.get("Location", ""))
    if (
        answer.is_redirect
        and answer.request.method not in READING
        and (_origin(source)[0], _origin(target)[0]) == ("https", "http")
    ):
        raise requests.RequestException("The registry wants the upload without TLS")
    whole = answer.iter_content

    def chunks(*given: Any, **named: Any) -> Iterator[Any]:
        length = 0
        for chunk in whole(*given, **named):
            length += len(chunk)
            if length > LARGEST_DOCUMENT:
                answer.close()
                raise requests.RequestException("Its answer is too large")
            yield chunk

    answer.iter_content = chunks  # type: ignore[method-assign]
    return answer


def _content(answer: requests.Response, what: str) -> bytes:
    content = b""
    for chunk in body_of(answer, 0).chunks:
        content += chunk
        if len(content) > LARGEST_DOCUMENT:
            raise TransferError(f"{what} is too large")
    return content


def _parsed(content: bytes, what: str) -> dict[str, Any]:
    try:
        return dict(parse_json(content))
    except (ValueError, TypeError) as error:
        raise TransferError(f"{what} is damaged") from error


def _failure(answer: requests.Response) -> TransferError:
    """The error for an answer that tells one, with the registry's own words if it has any."""
    reason = f"HTTP {answer.status_code} {answer.reason}".rstrip()
    if answer.request.method == "DELETE" and answer.status_code == NO_DELETION:
        return TransferError("the registry does not delete anything (HTTP 405)")
    denied = answer.status_code in FORBIDDEN
    failure = DeniedError(reason) if denied else status_error(answer) or TransferError(reason)
    try:
        told = json.loads(answer.content)["errors"][0]["message"]
    except (ValueError, LookupError, TypeError, requests.RequestException):
        return failure
    return type(failure)(f"{reason} ({visible(str(told))[:LONGEST_REASON]})")
