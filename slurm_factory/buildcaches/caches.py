"""The layouts of build caches: directories of files (v3), and registries of OCI images."""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from slurm_factory.buildcaches.layout import (
    ARCHIVE_TYPE,
    ENTRIES,
    ENTRY,
    INDEX,
    LARGEST_DESCRIPTION,
    LARGEST_ENTRY,
    LAYOUT,
    SPEC_TYPE,
    Entry,
    Package,
    Part,
    blob_path,
    checked,
    entry_name,
    entry_path,
    hash_in,
    index_entry,
    parse_description,
    parse_entry,
)
from slurm_factory.buildcaches.places import Place, place_of, read
from slurm_factory.buildcaches.registry import (
    CONFIG,
    LAYER,
    Registry,
    checksum_of,
    descriptor,
    tag_of,
)
from slurm_factory.buildcaches.signing import unsigned_payload
from slurm_factory.fetch.http import TransferError
from slurm_factory.output.text import mask_credentials
from slurm_factory.util.documents import LARGEST, parse_json, read_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

OCI_INDEX = "index.spack"
"""Tag of the index (Spack 1.1, `default_index_tag`)."""
ANNOTATION = "org.slurm-factory.spack.entry"
"""Of the image of a package: its entry in the layout v3, signed, which Spack's layout has no place
for. Its parts are the blobs of the image."""


class Cache(Protocol):
    """A build cache elsewhere; all methods raise `TransferError` for a failure."""

    @property
    def shown(self) -> str:
        """Its URL for messages."""

    def index(self, folder: Path) -> bytes:
        """Its index, by way of a directory (host); MissingError: it has none."""

    def entry(self, package: Package, folder: Path) -> bytes:
        """The entry of a package, as it is there; MissingError: it has none."""

    def download(self, part: Part, target: Path) -> None:
        """Copy a part of an entry to `target` (host); its checksum is not checked."""

    def descriptions(self, hashes: Collection[str], folder: Path) -> Iterator[list[dict[str, Any]]]:
        """Rows of these packages; what is damaged or gone is left out."""

    def hashes(self) -> frozenset[str]:
        """Hashes of all packages that are there."""

    def prepare(self, entry: Entry, blobs: Mapping[str, Path], folder: Path) -> Entry:
        """The entry as this layout has it; adds files that it needs to `folder` (host), by their
        checksums."""

    def put(self, package: Package, entry: Entry, text: bytes, blobs: Mapping[str, Path]) -> None:
        """Write a package, the entry last. `text` is the entry, maybe signed."""

    def put_index(self, content: bytes, folder: Path) -> None:
        """Write the index."""


def cache_at(url: str, timeout: float) -> Cache:
    """The build cache that a URL names; nothing is asked yet.

    Args:
        url: `file://`, `http(s)://`, `s3://`, `oci://` or `oci+http://`.
        timeout: Seconds without data after which a transfer counts as aborted.
    """
    if urlsplit(url).scheme.startswith("oci"):
        return Images(mask_credentials(url), Registry(url, timeout))
    return Files(mask_credentials(url), place_of(url, timeout))


@dataclass(frozen=True)
class Files:
    """A build cache of files, layout v3."""

    shown: str
    place: Place

    def index(self, folder: Path) -> bytes:
        """As `Cache` says."""
        manifest = read(self.place, INDEX, folder, LARGEST_ENTRY)
        with _damage("its index"):
            (about,) = parse_json(manifest)["data"]
            checksum = checked(about["checksum"])
        content = read(self.place, blob_path(checksum), folder, LARGEST)
        if checksum_of(content) != checksum:
            raise TransferError("its index is damaged")
        return content

    def entry(self, package: Package, folder: Path) -> bytes:
        """As `Cache` says."""
        return read(self.place, entry_path(package), folder, LARGEST_ENTRY)

    def download(self, part: Part, target: Path) -> None:
        """As `Cache` says."""
        self.place.download(blob_path(part.checksum), target, part.size)

    def descriptions(self, hashes: Collection[str], folder: Path) -> Iterator[list[dict[str, Any]]]:
        """As `Cache` says."""
        for path in self._entries:
            if hash_in(path) not in hashes:
                continue
            try:
                text = read(self.place, path, folder, LARGEST_ENTRY)
                part = parse_entry(unsigned_payload(text)).description
                content = read(self.place, blob_path(part.checksum), folder, LARGEST_DESCRIPTION)
                yield parse_description(content)
            except (TransferError, ValueError):
                continue

    def hashes(self) -> frozenset[str]:
        """As `Cache` says."""
        return frozenset(map(hash_in, self._entries))

    @property
    def _entries(self) -> list[str]:
        return [path for path in self.place.names(ENTRIES) if path.endswith(ENTRY)]

    def prepare(self, entry: Entry, blobs: Mapping[str, Path], folder: Path) -> Entry:
        """As `Cache` says: this is the layout of the local build cache."""
        del blobs, folder
        return entry

    def put(self, package: Package, entry: Entry, text: bytes, blobs: Mapping[str, Path]) -> None:
        """As `Cache` says."""
        for part in entry.parts:
            path = blob_path(part.checksum)
            if not self.place.has(path, part.size):
                self.place.upload(path, blobs[part.checksum])
        with _file(blobs[entry.archive.checksum].parent, text) as source:
            self.place.upload(entry_path(package), source)

    def put_index(self, content: bytes, folder: Path) -> None:
        """As `Cache` says."""
        manifest, checksum = index_entry(content)
        layout = json.dumps({"signing": "gpg"}).encode()
        if not self.place.has(LAYOUT, len(layout)):
            with _file(folder, layout) as source:
                self.place.upload(LAYOUT, source)
        for path, text in ((blob_path(checksum), content), (INDEX, manifest)):
            with _file(folder, text) as source:
                self.place.upload(path, source)


@dataclass(frozen=True)
class Images:
    """A build cache in a registry, as Spack lays it out: an image for each package."""

    shown: str
    registry: Registry

    def index(self, folder: Path) -> bytes:
        """As `Cache` says."""
        manifest = self.registry.manifest(OCI_INDEX)
        with _damage("its index"):
            checksum = _digest(manifest["layers"][0])
        content = self._blob(checksum, folder, LARGEST)
        if checksum_of(content) != checksum:
            raise TransferError("its index is damaged")
        return content

    def entry(self, package: Package, folder: Path) -> bytes:
        """As `Cache` says."""
        del folder
        manifest = self.registry.manifest(tag_of(entry_name(package)))
        with _damage(f"the image of {package.label}"):
            signed = (manifest.get("annotations") or {}).get(ANNOTATION)
            return str(signed).encode() if signed else _entry_of(manifest).text()

    def download(self, part: Part, target: Path) -> None:
        """As `Cache` says."""
        self.registry.download(part.checksum, target, part.size)

    def descriptions(self, hashes: Collection[str], folder: Path) -> Iterator[list[dict[str, Any]]]:
        """As `Cache` says."""
        for tag in self._tags:
            if _hash_of(tag) not in hashes:
                continue
            try:
                manifest = self.registry.manifest(tag)
                with _damage("an image"):
                    checksum = _digest(manifest["config"])
                yield parse_description(self._blob(checksum, folder, LARGEST_DESCRIPTION))
            except (TransferError, ValueError):
                continue

    def hashes(self) -> frozenset[str]:
        """As `Cache` says."""
        return frozenset(map(_hash_of, self._tags))

    @property
    def _tags(self) -> list[str]:
        return [tag for tag in self.registry.tags() if tag.endswith(".spack") and tag != OCI_INDEX]

    def prepare(self, entry: Entry, blobs: Mapping[str, Path], folder: Path) -> Entry:
        """As `Cache` says: the description is the configuration of an image.

        A layer for each dependency, as Spack pushes them, would make it an image that runs; a build
        cache needs none.
        """
        with gzip.open(blobs[entry.description.checksum]) as file:
            document = parse_json(file.read(LARGEST_DESCRIPTION))
        with gzip.open(blobs[entry.archive.checksum]) as file:
            unpacked = hashlib.file_digest(file, "sha256").hexdigest()
        target = str(document["spec"]["nodes"][0].get("arch"))
        config = {
            **document,
            "architecture": "amd64" if "x86_64" in target else "arm64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{unpacked}"]},
            "config": {"Env": []},
        }
        content = json.dumps(config, separators=(",", ":")).encode()
        part = Part(checksum_of(content), len(content), SPEC_TYPE, "none")
        (folder / part.checksum).write_bytes(content)
        return replace(entry, description=part)

    def put(self, package: Package, entry: Entry, text: bytes, blobs: Mapping[str, Path]) -> None:
        """As `Cache` says."""
        for part in entry.parts:
            self.registry.upload(part.checksum, blobs[part.checksum])
        config, layer = entry.description, entry.archive
        manifest = {
            "config": descriptor(CONFIG, config.checksum, config.size),
            "layers": [descriptor(LAYER, layer.checksum, layer.size)],
            "annotations": {ANNOTATION: text.decode()},
        }
        self.registry.put_manifest(tag_of(entry_name(package)), manifest)

    def put_index(self, content: bytes, folder: Path) -> None:
        """As `Cache` says."""
        del folder
        about = []
        for text in (b"{}", content):
            self.registry.upload(checksum_of(text), text)
            about.append((checksum_of(text), len(text)))
        manifest = {
            "config": descriptor(CONFIG, *about[0]),
            # Spack says so, too: registries keep what looks like an image.
            "layers": [descriptor(LAYER, *about[1])],
        }
        self.registry.put_manifest(OCI_INDEX, manifest)

    def _blob(self, checksum: str, folder: Path, limit: int) -> bytes:
        target = folder / f"blob-{secrets.token_hex(4)}"
        try:
            self.registry.download(checksum, target, limit)
            return read_bytes(target)
        finally:
            target.unlink(missing_ok=True)


def _entry_of(manifest: Mapping[str, Any]) -> Entry:
    """The entry of an image that Spack has pushed, whose layout has no signatures."""
    config, layer = manifest["config"], manifest["layers"][-1]
    return Entry(
        Part(_digest(config), int(config["size"]), SPEC_TYPE, "none"),
        Part(_digest(layer), int(layer["size"]), ARCHIVE_TYPE),
    )


def _digest(about: Mapping[str, Any]) -> str:
    return checked(str(about["digest"]).removeprefix("sha256:"))


def _hash_of(tag: str) -> str:
    return hash_in(tag.removesuffix(".spack"))


@contextmanager
def _damage(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise TransferError(f"{what} is damaged") from error


@contextmanager
def _file(folder: Path, content: bytes) -> Iterator[Path]:
    path = folder / f"upload-{secrets.token_hex(4)}"
    try:
        path.write_bytes(content)
        yield path
    finally:
        path.unlink(missing_ok=True)
