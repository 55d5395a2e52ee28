"""A repository of a registry of OCI images, which holds a build cache as Spack lays it out."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests

from slurm_factory.buildcaches.places import CHUNK, AbsentError, TooLargeError
from slurm_factory.fetch.http import (
    CONNECT_TIMEOUT,
    TransferError,
    TransientError,
    UnreachableError,
    classified,
    new_session,
    with_retries,
)
from slurm_factory.util.documents import parse_json
from slurm_factory.util.machine import is_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from oras.provider import Registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
LARGEST_MANIFEST = 4 << 20
"""In bytes; the specification asks registries to take this much."""
LONGEST_TAG = 128
HTTP = "oci+http"
"""Scheme of a registry without TLS, as Spack writes it."""
DENIED = frozenset({401, 403})


@dataclass(frozen=True)
class Repository:
    """A repository of a registry.

    Credentials are those of `docker login`, `podman login` or `oras login`.

    Args:
        url: `oci://<host>/<name>` or `oci+http://…`.
        timeout: Seconds without data after which a transfer counts as aborted.
    """

    url: str
    timeout: float

    def manifest(self, tag: str) -> dict[str, Any]:
        """The manifest of a tag.

        Raises:
            AbsentError: There is none.
            TransferError: It cannot be fetched, or is damaged.
        """
        accept = {"Accept": MANIFEST}
        answer = with_retries(lambda: self._ask("GET", f"manifests/{tag}", headers=accept))
        try:
            return dict(parse_json(answer.content[:LARGEST_MANIFEST]))
        except (ValueError, TypeError) as error:
            raise TransferError(f"the manifest of {tag} is damaged") from error

    def tags(self) -> list[str]:
        """All tags; none if there is no such repository yet."""
        found: list[str] = []
        path = "tags/list?n=1000"
        while path:
            try:
                answer = with_retries(partial(self._ask, "GET", path))
            except AbsentError:
                return found
            found += answer.json().get("tags") or ()
            link = answer.links.get("next", {}).get("url", "")
            path = f"tags/list?{urlsplit(link).query}" if link else ""
        return found

    def download(self, checksum: str, target: Path, limit: int) -> None:
        """Copy a blob to `target` (host); raises as `manifest` does."""
        with_retries(lambda: self._download(checksum, target, limit))

    def has(self, checksum: str) -> bool:
        """Whether there is a blob."""
        try:
            self._ask("HEAD", f"blobs/sha256:{checksum}")
        except AbsentError:
            return False
        return True

    def upload(self, checksum: str, source: Path) -> None:
        """Write a blob, unless it is there.

        Raises:
            TransferError: It cannot be written.
        """
        if self.has(checksum):
            return

        def send() -> None:
            begun = self._ask("POST", "blobs/uploads/")
            place = urljoin(begun.url, begun.headers["Location"])
            place += f"{'&' if urlsplit(place).query else '?'}digest=sha256:{checksum}"
            with source.open("rb") as file:
                kind = {"Content-Type": "application/octet-stream"}
                self._ask("PUT", place, headers=kind, data=file)

        with_retries(send)

    def put_manifest(self, tag: str, document: dict[str, Any]) -> None:
        """Write a manifest and its tag; readers see the old one or the new one."""
        content = json.dumps(document).encode()
        kind = {"Content-Type": MANIFEST}
        with_retries(lambda: self._ask("PUT", f"manifests/{tag}", headers=kind, data=content))

    @cached_property
    def _host(self) -> str:
        return urlsplit(self.url).netloc

    @cached_property
    def _api(self) -> str:
        parts = urlsplit(self.url)
        # As Docker does: no TLS with a registry on this machine.
        plain = parts.scheme == HTTP or is_loopback(parts.hostname or "")
        scheme = "http" if plain else "https"
        return f"{scheme}://{self._host}/v2/{urlsplit(self.url).path.strip('/').lower()}/"

    @cached_property
    def _registry(self) -> Registry:
        """oras knows how registries authenticate, and where passwords are kept."""
        import oras.container  # noqa: PLC0415  # slow, and few need it
        import oras.provider  # noqa: PLC0415

        logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
        insecure = self._api.startswith("http:")
        session = new_session()
        session.request = partial(  # type: ignore[method-assign]
            session.request, timeout=(CONNECT_TIMEOUT, self.timeout)
        )
        asked = session.get(urljoin(self._api, "/v2/"))
        basic = asked.headers.get("WWW-Authenticate", "").lower().startswith("basic")
        registry = oras.provider.Registry(
            self._host, insecure=insecure, auth_backend="basic" if basic else "token"
        )
        registry.session = registry.auth.session = session
        registry.auth.load_configs(oras.container.Container(f"{self._host}/any:any"))
        return registry

    def _ask(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | IO[bytes] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        url = urljoin(self._api, path)
        arguments = (url, method, data, dict(headers or {}), None, stream)
        with self._errors():
            registry = self._registry
            # Tried once: oras waits for minutes between its tries.
            once = type(registry).do_request.__wrapped__
            answer: requests.Response = once(registry, *arguments)
            if answer.status_code in DENIED and getattr(registry.auth, "token", None):
                # oras keeps its first token, which may be for reading only.
                registry.auth.token = None
                if data and not isinstance(data, bytes):
                    data.seek(0)
                answer = once(registry, *arguments)
        _require_success(answer)
        return answer

    def _download(self, checksum: str, target: Path, limit: int) -> None:
        answer = self._ask("GET", f"blobs/sha256:{checksum}", stream=True)
        with answer, self._errors(), target.open("wb") as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                if file.tell() > limit:
                    raise TooLargeError("it is too large")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as error:
            raise classified(error, (CONNECT_TIMEOUT, self.timeout)) from error
        # oras raises it where it has no credentials.
        except (ValueError, KeyError, AttributeError) as error:
            raise UnreachableError("access is denied") from error


def _require_success(answer: requests.Response) -> None:
    status = answer.status_code
    if status in {404, 410}:
        raise AbsentError("it is not there")
    if status in DENIED:
        raise UnreachableError("access is denied")
    if not answer.ok:
        reason = f"HTTP {status} {answer.reason}".rstrip()
        raise TransientError(reason) if status >= 500 or status == 429 else TransferError(reason)  # noqa: PLR2004


def tag_of(name: str) -> str:
    """The tag that Spack gives an entry (Spack 1.1, `ensure_valid_tag`)."""
    tag = re.sub(r"[^\w.-]", "_", f"{name}.spack", flags=re.ASCII)
    half = LONGEST_TAG // 2
    return tag[:half] + tag[-half:] if len(tag) > LONGEST_TAG else tag


def descriptor(media_type: str, checksum: str, size: int) -> dict[str, Any]:
    """A part of a manifest."""
    return {"mediaType": media_type, "digest": f"sha256:{checksum}", "size": size}


def checksum_of(content: bytes) -> str:
    """SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()
