"""Images of a registry as Spack lays out a build cache."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slurm_factory.buildcaches.places import copy_body
from slurm_factory.fetch.http import with_retries

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.fetch.registry import Repository

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
LONGEST_TAG = 128


@dataclass(frozen=True)
class Registry:
    """A repository, whose server is asked again after a failure that may pass.

    Its methods raise `TransferError`, and MissingError for what is not there.

    Args:
        url: `oci://<host>/<name>` or `oci+http://…`.
        timeout: Seconds without data after which a transfer counts as aborted.
    """

    url: str
    timeout: float

    @cached_property
    def _repository(self) -> Repository:
        from slurm_factory.fetch.registry import Repository  # noqa: PLC0415  # slow, few need it

        return Repository(self.url, self.timeout)

    def manifest(self, tag: str) -> dict[str, Any]:
        """The manifest of a tag."""
        return with_retries(lambda: self._repository.manifest(tag))

    def tags(self) -> list[str]:
        """All tags; none if there is no such repository yet."""
        return with_retries(self._repository.tags)

    def download(self, checksum: str, target: Path, limit: int) -> None:
        """Copy a blob to `target` (host), if it has at most `limit` bytes."""

        def copy() -> None:
            with self._repository.open(checksum) as body:
                copy_body(body, target, limit)

        with_retries(copy)

    def upload(self, checksum: str, source: Path | bytes) -> None:
        """Write a blob, unless it is there."""
        with_retries(lambda: self._repository.upload(checksum, source))

    def put_manifest(self, tag: str, document: dict[str, Any]) -> None:
        """Write a manifest and its tag."""
        with_retries(lambda: self._repository.put_manifest(tag, document))


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
