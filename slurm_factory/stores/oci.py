"""A store in a repository of an OCI registry.

Each package is an artifact whose tag is its name. Its layers are its files, for any client to pull;
its config is its entry of the index. The index is an artifact with the tag `index`.

Registries cannot replace a tag on a condition. So the tags are the truth: which there are, and
which content each has. A publisher tags its packages before it writes the index, and reads the tags
again afterwards: whoever writes the index last sees the tags of all others, and writes it again if
it says something else. Of several packages of one name, the last one stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import ValidationError

from slurm_factory.constants import APPLICATION
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch.http import Body, MissingError, TransferError
from slurm_factory.fetch.registry import Repository
from slurm_factory.package.file_names import ENDINGS
from slurm_factory.stores.http import read_whole
from slurm_factory.stores.index import StoredPackage, parse_index
from slurm_factory.stores.store import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_factory.package.manifest import File

VENDOR = "application/vnd.slurm-factory"
PACKAGE_TYPE = f"{VENDOR}.package.v1+json"
INDEX_TYPE = f"{VENDOR}.index.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
MEDIA_TYPES = ENDINGS._replace(
    software=f"{VENDOR}.software.v1.tar+gzip",
    module=f"{VENDOR}.module.v1.tar+gzip",
    sbom="application/vnd.cyclonedx+json",
    provenance="application/vnd.in-toto+json",
    checksums="text/plain",
    manifest=f"{VENDOR}.manifest.v1+json",
    verification=f"{VENDOR}.verification.v1+json",
    checksums_signature="application/pgp-signature",
    manifest_signature="application/pgp-signature",
    bundle="application/vnd.dev.sigstore.bundle.v0.3+json",
)
INDEX_TAG = "index"
LONGEST_TAG = 128
AT_ONCE = 8
TITLE = "org.opencontainers.image.title"


class _Tagged(NamedTuple):
    """What a tag has: the digest of its manifest, and the package; None: it is of others."""

    digest: str
    package: StoredPackage | None


class OciStore:
    """A repository."""

    def __init__(self, url: str, shown: str, timeout: float) -> None:
        parts = urlsplit(url)
        self.shown = shown
        self.login = f"Log in with `docker login {parts.netloc}` or `oras login {parts.netloc}`."
        self._repository = Repository(url, timeout)
        self._packages: dict[str, StoredPackage | None] = {}
        """By the digests of their manifests."""
        self._seen: dict[str, _Tagged] = {}
        """What the tags had when the index was read to be replaced."""
        self._tag_again: dict[str, Callable[[], None]] = {}
        """By the content of packages that were put here."""

    def index(self) -> Seen:
        """As `Store.index`."""
        manifest = self._repository.manifest(INDEX_TAG)
        try:
            digest = str(manifest["layers"][0]["digest"])
        except (KeyError, IndexError, TypeError) as error:
            raise TransferError("the tag index is not an index of slurm-factory") from error
        with self._blob(digest) as body:
            return Seen(read_whole(body), digest)

    def index_to_replace(self) -> Seen:
        """As `Store.index_to_replace`: what the tags say, where the index says something else."""
        try:
            seen: Seen | None = self.index()
        except MissingError:
            seen = None
        written = parse_index(seen.content if seen else None, self.shown)
        found = self._seen = self._tagged()
        known = {each.content for each in written.packages}
        lost = [
            each.package
            for each in found.values()
            if each.package and each.package.content not in known
        ]
        gone = {each.stem for each in written.packages if tag_of(each.stem) not in found}
        if not lost and not gone and seen:
            return seen
        healed = written.without(gone).with_packages(lost)
        return Seen(healed.as_bytes(), written=False)

    def replace(self, content: bytes, seen: Seen, leaving: Collection[str] = ()) -> bool:
        """As `Store.replace`."""
        del seen
        packages = parse_index(content, self.shown).packages
        for package in packages:
            self._keep_tag(package)
        layer = self._upload(content, INDEX_TYPE) | {"annotations": {TITLE: "index.json"}}
        self._push(INDEX_TAG, INDEX_TYPE, self._upload(EMPTY, EMPTY_TYPE), [layer], {})
        named = {tag_of(each.stem): each.content for each in packages}
        found = {tag: each.package.content for tag, each in self._tagged().items() if each.package}
        left = {tag_of(stem) for stem in leaving}
        return named == {tag: content for tag, content in found.items() if tag not in left}

    def _keep_tag(self, package: StoredPackage) -> None:
        """Tag a package that was put here again, if another publisher has moved its tag."""
        tag_again = self._tag_again.get(package.content)
        if tag_again is None:
            return
        found = self._at(tag_of(package.stem)).package
        if found is None or found.content != package.content:
            tag_again()

    def put(self, package: StoredPackage, directory: Path) -> None:
        """As `Store.put`."""
        types = dict(zip(package.identity.names, MEDIA_TYPES, strict=True))
        layers = []
        for file in package.all_files:
            layer = {
                "mediaType": types[file.name],
                "digest": f"sha256:{file.sha256}",
                "size": file.size,
                "annotations": {TITLE: file.name},
            }
            self._repository.upload(file.sha256, directory / file.name)
            layers.append(layer)
        config = self._upload(package.model_dump_json().encode(), PACKAGE_TYPE)
        tag = tag_of(package.stem)
        write = partial(self._push, tag, PACKAGE_TYPE, config, layers, _annotations(package))
        write()
        self._tag_again[package.content] = write

    @contextmanager
    def get(self, package: StoredPackage, file: File, offset: int) -> Iterator[Body]:
        """As `Store.get`."""
        del package
        with self._repository.open(file.sha256, offset) as body:
            yield body

    def settle(self, package: StoredPackage, directory: Path) -> None:
        """As `Store.settle`: nothing, because a registry collects its garbage itself."""

    def discard(self, package: StoredPackage) -> None:
        """As `Store.discard`. Of a package that another one has replaced, the tag has moved."""
        seen = self._seen.get(tag_of(package.stem))
        if seen is None or seen.package is None or seen.package.content != package.content:
            return
        # Another publisher may have published one of this name since, even the same again.
        index = parse_index(self.index().content, self.shown)
        if index.find(package.stem) is None:
            self._repository.delete(seen.digest)

    def _tagged(self) -> dict[str, _Tagged]:
        """What the tags have now, by tag."""
        tags = [tag for tag in self._repository.tags() if tag != INDEX_TAG]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(tags, pool.map(self._at, tags), strict=True))

    def _at(self, tag: str) -> _Tagged:
        """What a tag has now."""
        try:
            manifest, digest = self._repository.manifest_and_digest(tag)
        except MissingError:
            return _Tagged("", None)
        if digest not in self._packages:
            self._packages[digest] = self._package(manifest)
        package = self._packages[digest]
        return _Tagged(digest, package if package and tag_of(package.stem) == tag else None)

    def _package(self, manifest: Mapping[str, Any]) -> StoredPackage | None:
        """The package of a manifest; None for artifacts of others."""
        try:
            config = manifest.get("config") or {}
            if config.get("mediaType") != PACKAGE_TYPE:
                return None
            with self._blob(str(config["digest"])) as body:
                return StoredPackage.model_validate_json(read_whole(body))
        except (MissingError, ValidationError, KeyError):
            return None

    def _push(
        self,
        tag: str,
        kind: str,
        config: Mapping[str, Any],
        layers: list[dict[str, Any]],
        annotations: Mapping[str, str],
    ) -> None:
        manifest = {
            "artifactType": kind,
            "config": config,
            "layers": layers,
            "annotations": annotations,
        }
        self._repository.put_manifest(tag, manifest)

    def _upload(self, content: bytes, media_type: str) -> dict[str, Any]:
        """Upload a small document; returns what describes it."""
        checksum = hashlib.sha256(content).hexdigest()
        self._repository.upload(checksum, content)
        return {"mediaType": media_type, "digest": f"sha256:{checksum}", "size": len(content)}

    def _blob(self, digest: str) -> AbstractContextManager[Body]:
        return self._repository.open(digest.removeprefix("sha256:"))


def tag_of(stem: str) -> str:
    """The tag of a package; tags have neither + nor ~.

    Raises:
        ConfigurationError: The name is too long.
    """
    tag = stem.replace("+", "_").replace("~", "_")
    if len(tag) > LONGEST_TAG:
        raise ConfigurationError(
            f"The name {stem} is too long for a registry.",
            details=f"Tags have at most {LONGEST_TAG} characters.",
            resolution="Build it with fewer variants, or use a store of another kind.",
        )
    return tag


def _annotations(package: StoredPackage) -> dict[str, str]:
    """The predefined ones (specs.opencontainers.org, image-spec, "Annotations")."""
    identity = package.identity
    return {
        "org.opencontainers.image.created": package.created.isoformat(),
        "org.opencontainers.image.title": package.stem,
        "org.opencontainers.image.description": f"Slurm {identity.release} for {identity.arch},"
        f" glibc {package.glibc or 'of any release'}",
        "org.opencontainers.image.version": identity.release,
        "org.opencontainers.image.vendor": APPLICATION,
        "org.opencontainers.image.licenses": "GPL-2.0-or-later",
    }
