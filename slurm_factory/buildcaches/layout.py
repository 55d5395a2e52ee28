"""What a build cache of Spack 1.1 consists of: entries, blobs, an index (layout v3).

Described in spack.readthedocs.io, "binary_caches.html"; Spack reads it in
lib/spack/spack/url_buildcache.py.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from slurm_factory.util.documents import open_regular, parse_json, read_bytes

ENTRIES = "v3/manifests/spec"
ENTRY = ".spec.manifest.json"
INDEX = "v3/manifests/index/index.manifest.json"
LAYOUT = "v3/layout.json"
BLOBS = PurePosixPath("blobs/sha256")
SPEC_TYPE = "application/vnd.spack.spec.v5+json"
ARCHIVE_TYPE = "application/vnd.spack.install.v2.tar+gzip"
INDEX_TYPE = "application/vnd.spack.db.v8+json"
DATABASE_VERSION = "8"
"""Of Spack's database (`_DB_VERSION` in lib/spack/spack/database.py), as in the media type."""
LARGEST_ENTRY = 1 << 20
LARGEST_DESCRIPTION = 64 << 20
"""Limits in bytes; real ones have some hundred bytes, and some hundred KB."""
LARGEST_ARCHIVE = 4 << 30
"""As a file of a store; compilers have some hundred MB."""
SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""Errors of reading something that is missing or damaged."""


class Package(Protocol):
    """What names an entry."""

    @property
    def name(self) -> str:
        """Name of the package."""

    @property
    def version(self) -> str:
        """In Spack's notation."""

    @property
    def hash(self) -> str:
        """Spack's hash of the package with all its dependencies."""

    @property
    def label(self) -> str:
        """Name and version, as Spack prints them."""


@dataclass(frozen=True)
class Part:
    """A blob of an entry.

    Attributes:
        checksum: Its SHA-256.
        size: In bytes.
        media_type: SPEC_TYPE for the description of the package, ARCHIVE_TYPE for its files.
        compression: `gzip` or `none`.
    """

    checksum: str
    size: int
    media_type: str
    compression: str = "gzip"

    def record(self) -> dict[str, Any]:
        """As an entry has it."""
        return {
            "contentLength": self.size,
            "mediaType": self.media_type,
            "compression": self.compression,
            "checksumAlgorithm": "sha256",
            "checksum": self.checksum,
        }


@dataclass(frozen=True)
class Entry:
    """An entry: the description of a package, and its files."""

    description: Part
    archive: Part

    @property
    def parts(self) -> tuple[Part, Part]:
        """Both, the archive first: the description makes it usable."""
        return self.archive, self.description

    def text(self) -> bytes:
        """As Spack writes it: with short lines, since gpg cuts off what comes after 19,995
        characters."""
        document = {"version": 3, "data": [part.record() for part in self.parts]}
        return json.dumps(document, indent=0, separators=(",", ":")).encode()


def parse_entry(payload: bytes) -> Entry:
    """The entry in a text without a signature.

    Raises:
        ValueError: It is none.
    """
    try:
        document = parse_json(payload)
        parts = {row["mediaType"]: _part(row) for row in document["data"]}
        if document["version"] != 3 or len(parts) != len(document["data"]):  # noqa: PLR2004
            raise ValueError("it has another layout")
        return Entry(parts[SPEC_TYPE], parts[ARCHIVE_TYPE])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is no entry of a package") from error


def _part(row: Mapping[str, Any]) -> Part:
    size = row["contentLength"]
    if type(size) is not int or size < 0 or row["checksumAlgorithm"] != "sha256":
        raise ValueError("it has an impossible part")
    checksum = checked(row["checksum"])
    return Part(checksum, size, str(row["mediaType"]), str(row["compression"]))


def checked(checksum: Any) -> str:
    """A SHA-256 that may become a part of a path.

    Raises:
        ValueError: It is none.
    """
    digest = str(checksum)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{digest[:80]} is not a checksum")
    return digest


def blob_path(checksum: Any) -> PurePosixPath:
    """Path of a blob below its build cache; raises ValueError for anything but a SHA-256."""
    digest = checked(checksum)
    return BLOBS / digest[:2] / digest


def entry_path(package: Package) -> PurePosixPath:
    """Path of an entry below its build cache (Spack 1.1, `get_manifest_filename`)."""
    return PurePosixPath(ENTRIES, package.name, f"{entry_name(package)}{ENTRY}")


def entry_name(package: Package) -> str:
    """Name of an entry without its ending."""
    name = f"{package.name}-{package.version}-{package.hash}"
    return re.sub(r"[^A-Za-z0-9_+.-]", "_", name)


def hash_in(name: str) -> str:
    """Hash of a package from the name of its entry: <name>-<version>-<hash>."""
    return name.removesuffix(ENTRY).rpartition("-")[2]


def is_whole(blob: Path) -> bool:
    """Whether a file (host) has the checksum that is its name."""
    try:
        with open_regular(blob) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob.name
    except OSError:
        return False


def read_description(path: Path) -> list[dict[str, Any]]:
    """The rows of a package and of all that it needs, the package first.

    Args:
        path: The description (host), compressed or not.

    Raises:
        ValueError: It is damaged.
        OSError: It cannot be read.
    """
    return parse_description(read_bytes(path))


def parse_description(content: bytes) -> list[dict[str, Any]]:
    """As `read_description`, from the content of the file."""
    try:
        if content.startswith(b"\x1f\x8b"):
            inflate = zlib.decompressobj(wbits=31)
            content = inflate.decompress(content, LARGEST_DESCRIPTION)
        rows: list[dict[str, Any]] = parse_json(content)["spec"]["nodes"]
        if not all(isinstance(row["hash"], str) for row in rows) or not rows:
            raise ValueError("a description without packages")
    except (KeyError, TypeError, AttributeError, EOFError, zlib.error) as error:
        raise ValueError(f"not a description of a package: {error}") from error
    return rows


def describes(rows: list[dict[str, Any]], package: Package, known: Mapping[str, Any]) -> bool:
    """Whether a description is that of a package, with all that it needs, as it is known.

    Spack sorts the compiler flags of packages that it takes from a build cache when it decides, and
    keeps their hashes: the order of flags does not count.

    Args:
        rows: The description.
        package: The package.
        known: Rows of the lock by hash.
    """
    return rows[0]["hash"] == package.hash and all(
        row["hash"] in known and _unordered(known[row["hash"]]) == _unordered(row) for row in rows
    )


def _unordered(row: Mapping[str, Any]) -> dict[str, Any]:
    parameters = row.get("parameters")
    if not isinstance(parameters, dict):
        return dict(row)
    values = {k: sorted(map(str, v)) if isinstance(v, list) else v for k, v in parameters.items()}
    return {**row, "parameters": values}


def make_index(rows: Mapping[str, Any], available: Collection[str]) -> bytes:
    """An index.

    Args:
        rows: Packages by hash, with all that they need.
        available: Hashes of those that the build cache has.
    """
    needed = _reached(rows, available)
    installs = {
        digest: {"spec": rows[digest], "ref_count": 0, "in_buildcache": digest in available}
        for digest in sorted(needed)
    }
    document = {"database": {"version": DATABASE_VERSION, "installs": installs}}
    return json.dumps(document, separators=(",", ":")).encode()


def read_index(content: bytes) -> dict[str, Any]:
    """Rows of all packages in an index by hash.

    Raises:
        ValueError: It is damaged.
    """
    try:
        installs = parse_json(content)["database"]["installs"]
        return {digest: row["spec"] for digest, row in installs.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an index: {error}") from error


def listed_in(content: bytes) -> frozenset[str]:
    """Hashes of the packages that the build cache of an index has; raises UNREADABLE errors."""
    installs = parse_json(content)["database"]["installs"]
    return frozenset(known for known, row in installs.items() if row["in_buildcache"])


def index_entry(content: bytes) -> tuple[bytes, str]:
    """The file that names an index, and the checksum of the index."""
    digest = hashlib.sha256(content).hexdigest()
    part = Part(digest, len(content), INDEX_TYPE, "none")
    return json.dumps({"version": 3, "data": [part.record()]}).encode(), digest


def is_complete(rows: Mapping[str, Any], digest: str) -> bool:
    """Whether `rows` have a package and all that it needs."""
    return all(each in rows for each in _reached(rows, [digest]))


def _reached(rows: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """Hashes of these packages and of all that they need, also of those that rows do not have."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in seen:
            seen.add(digest)
            waiting += _needs(rows.get(digest))
    return seen


def _needs(row: Any) -> Iterator[str]:
    try:
        yield from (str(need["hash"]) for need in (row or {}).get("dependencies", ()))
    except UNREADABLE:
        return


def compress(document: Mapping[str, Any]) -> bytes:
    """A description as Spack stores it."""
    return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), mtime=0)
