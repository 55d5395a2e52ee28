"""Build caches: the packages of this machine, and the indexes of all."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from slurm_factory.instances.instance import CommandError
from slurm_factory.util.documents import LARGEST, open_regular, parse_json, read_bytes, read_json
from slurm_factory.util.files import atomic_write, file_errors
from slurm_factory.util.hints import printable
from slurm_factory.util.tar_stream import refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_factory.recipes.spack.lock import Lock, Node
    from slurm_factory.recipes.spack.session import Spack

ENTRIES = "v3/manifests/spec"
ENTRY = ".spec.manifest.json"
INDEX = "v3/manifests/index/index.manifest.json"
BLOBS = PurePosixPath("blobs/sha256")
CONTENTS = "contents.json"
"""The list of Spack's copies of indexes, in the directory `indices` of its `misc_cache`."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""Errors of reading an index that is missing or damaged."""
UNUSABLE = re.compile(r"Unable to fetch spec for manifest \S*/(?P<entry>[^/\s]+)\.spec\.manifest")


def refresh_indexes(spack: Spack) -> None:
    """Let Spack make the index of a build cache of this machine anew if it is not current.

    New packages are not in it, and the new installer uses only packages that the index lists (Spack
    1.1.0); a damaged index makes it fail. If the index lists packages that are gone, Spack selects
    them and then reports them as damaged.

    The index decides what later builds concretize to: call this before the instance has run
    anything but Spack.

    Raises:
        CommandError: Spack could not.
        VerificationError: Its index does not describe this cache.
        OSError: The index cannot be written.
    """
    for cache in spack.buildcaches:
        if not _hashes(cache):
            (cache / INDEX).unlink(missing_ok=True)
        elif not index_is_current(cache):
            copy = spack.instance.build_dir / "spack-index"
            spack.run_script("spack-index.sh", {"CACHE": spack.inside(cache), "COPY": str(copy)})
            spack.run("buildcache", "update-index", f"file://{copy}", on_line=_Watch(spack))
            _take_index(spack, copy, cache)


def _take_index(spack: Spack, copy: PurePosixPath, cache: Path) -> None:
    manifest = spack.instance.take_file(copy / INDEX)
    try:
        (about,) = parse_json(manifest)["data"]
        blob = _blob(about["checksum"])
        content = spack.instance.take_file(copy / blob, LARGEST)
        known = _listed(content)
    except UNREADABLE as error:
        raise refused(f"Spack's index of {cache.name} is wrong: {error}.") from error
    if hashlib.sha256(content).hexdigest() != blob.name or not known <= _hashes(cache):
        raise refused(f"Spack's index of {cache.name} lists other packages than it has.")
    _write(cache / blob, content)
    _write(cache / INDEX, manifest)


def take_packages(spack: Spack, nodes: Iterable[Node]) -> frozenset[str]:
    """Add packages that Spack has built in the instance to the first build cache of this machine.

    An instance only says which package an entry is; this program checks that its parts belong
    together and that the entry is one of the build. It never replaces a valid entry.

    Args:
        spack: Spack session.
        nodes: Packages of the lock; those that Spack has not pushed yet are skipped.

    Returns:
        Hashes of the packages that the instance has delivered.

    Raises:
        VerificationError: An entry is not what it should be.
        OutputError: The cache directory is full.
    """
    wanted = {node.hash: node for node in nodes}
    if not wanted:
        return frozenset()
    taken = spack.fill(
        f"spack-entries-{secrets.token_hex(3)}",
        "spack-entries.sh",
        {"CACHE": str(spack.paths.packages), "HASHES": "\n".join(wanted)},
    )
    delivered = []
    for entry in _entries(taken):
        node = wanted.get(_hash_of(entry))
        if node is None or entry.parent.name != node.name:
            raise refused(f"It delivers {printable(entry.name)}, which it was not asked for.")
        _accept(entry, taken, spack.buildcaches[0])
        delivered.append(node.hash)
    shutil.rmtree(taken)
    return frozenset(delivered)


def _accept(entry: Path, taken: Path, cache: Path) -> None:
    """Move an entry with its blobs into a build cache, the entry last."""
    blobs = _blobs(entry)
    if not blobs or not all(_is_whole(taken / blob) for blob in blobs):
        raise refused(f"The package {printable(entry.name)} is not complete.")
    place = cache / entry.relative_to(taken)
    present = _blobs(place)
    if present and all(_is_whole(cache / blob) for blob in present):
        return
    with file_errors(place):
        for path in (*blobs, entry.relative_to(taken)):
            (cache / path).parent.mkdir(parents=True, exist_ok=True)
            # Another entry may have brought the same blob from the same directory.
            if (taken / path).exists():
                (taken / path).replace(cache / path)


def _blobs(entry: Path) -> list[PurePosixPath]:
    """Paths of the parts of an entry (host) below its build cache; none if it is damaged."""
    try:
        return [_blob(part["checksum"]) for part in read_json(entry)["data"]]
    except UNREADABLE:
        return []


def _blob(checksum: Any) -> PurePosixPath:
    digest = str(checksum)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{digest} is not a checksum")
    return BLOBS / digest[:2] / digest


def _is_whole(blob: Path) -> bool:
    try:
        with open_regular(blob) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob.name
    except OSError:
        return False


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content)


def save_remote_indexes(spack: Spack) -> None:
    """Keep Spack's copies of the indexes of remote build caches for later builds.

    They only show whose sources need not be fetched. Call this before the instance has run
    anything but Spack.
    """
    if not spack.choice.buildcaches:
        return
    taken = spack.work / "indexes"
    # There are none if Spack had nothing to look up.
    with suppress(CommandError):
        spack.instance.take_directory(spack.paths.index / "indices", taken)
        spack.remote_indexes.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(spack.remote_indexes, ignore_errors=True)
        taken.rename(spack.remote_indexes)


def index_is_current(cache: Path) -> bool:
    """Whether the index of a build cache (host) is valid, younger than every entry, and lists no
    others (layout of Spack's build caches, v3: spack.readthedocs.io, "binary_caches.html").

    It need not list all entries: Spack skips those that it cannot read. An empty cache needs no
    index.
    """
    entries, index = _entries(cache), cache / INDEX
    if not entries:
        return True
    named = _named(index, cache)
    if named is None or not named <= _hashes(cache):
        return False
    return index.stat().st_mtime_ns >= max(path.stat().st_mtime_ns for path in entries)


def in_remote_caches(spack: Spack, lock: Lock) -> frozenset[str]:
    """Hashes of those packages of `lock` that remote build caches have for Spack to take.

    No server is asked: Spack keeps copies of the indexes, which are as old as its last look at
    them. Without a copy nothing is known. The indexes do not say who signed an entry.
    """
    choice = spack.choice
    usable = spack.verifies or not choice.signed
    asked = {url.rstrip("/") for url in choice.buildcaches if usable}
    contents = spack.remote_indexes / CONTENTS
    try:
        # A key is a URL and the version of its layout.
        copies = [
            contents.with_name(about["index_path"])
            for key, about in (read_json(contents) if asked else {}).items()
            if key.rpartition("__v")[0].rstrip("/") in asked
        ]
        wanted = {node.hash for node in lock.packages}
        return frozenset().union(*(wanted & _listed(read_bytes(copy)) for copy in copies))
    except UNREADABLE:
        return frozenset()


def _entries(cache: Path) -> list[Path]:
    return list((cache / ENTRIES).glob(f"*/*{ENTRY}"))


def _hashes(cache: Path) -> frozenset[str]:
    """Hashes of the existing packages; file names are <name>-<version>-<hash>."""
    return frozenset(map(_hash_of, _entries(cache)))


def _hash_of(entry: Path) -> str:
    return entry.name.removesuffix(ENTRY).rpartition("-")[2]


def _named(index: Path, cache: Path) -> frozenset[str] | None:
    """Hashes of the packages in an index; None if it is damaged."""
    try:
        (about,) = read_json(index)["data"]
        blob = _blob(about["checksum"])
        content = read_bytes(cache / blob)
        return _listed(content) if hashlib.sha256(content).hexdigest() == blob.name else None
    except UNREADABLE:
        return None


def _listed(index: bytes) -> frozenset[str]:
    """Hashes of the packages in an index; raises UNREADABLE errors if it is invalid."""
    installs = parse_json(index)["database"]["installs"]
    return frozenset(known for known, row in installs.items() if row["in_buildcache"])


class _Watch:
    """Reports entries that Spack omits from the index because it cannot read them."""

    def __init__(self, spack: Spack) -> None:
        self._reporter = spack.job.reporter

    def __call__(self, line: str) -> None:
        self._reporter.line(line)
        found = UNUSABLE.search(line)
        if found:
            self._reporter.warning(
                f"The build cache's entry {found['entry']} is damaged; building the package again."
            )
