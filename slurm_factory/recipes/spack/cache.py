"""Build caches: the packages of this machine, and the indexes of all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.buildcaches.layout import (
    ENTRIES,
    ENTRY,
    INDEX,
    LARGEST_ENTRY,
    UNREADABLE,
    blob_path,
    describes,
    entry_path,
    hash_in,
    is_whole,
    listed_in,
    read_description,
)
from slurm_factory.util.documents import LARGEST, parse_json, read_bytes, read_json
from slurm_factory.util.files import atomic_write, file_errors
from slurm_factory.util.tar_stream import refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_factory.recipes.spack.lock import Lock, Node
    from slurm_factory.recipes.spack.session import Spack

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
        blob = blob_path(about["checksum"])
        content = spack.instance.take_file(copy / blob, LARGEST)
        known = listed_in(content)
    except UNREADABLE as error:
        raise refused(f"Spack's index of {cache.name} is wrong: {error}.") from error
    if hashlib.sha256(content).hexdigest() != blob.name or not known <= _hashes(cache):
        raise refused(f"Spack's index of {cache.name} lists other packages than it has.")
    _write(cache / blob, content)
    _write(cache / INDEX, manifest)


def missing_packages(spack: Spack, lock: Lock, remote: frozenset[str]) -> tuple[Node, ...]:
    """The packages of `lock` that no build cache of this machine has whole, and no remote one.

    Only these may come out of the instance: what it prints does not decide which it has built.
    """
    return tuple(
        node
        for node in lock.packages
        if node.hash not in remote
        and not any(_has_whole(cache, node) for cache in spack.buildcaches)
    )


def take_packages(spack: Spack, lock: Lock, nodes: Iterable[Node]) -> frozenset[str]:
    """Add packages that Spack has built in the instance to the first build cache of this machine.

    An instance only says which package an entry is; this program checks that its parts belong
    together, and that its description is the one in the lock, because Spack makes the index of
    those. It never replaces a valid entry.

    Args:
        spack: Spack session.
        lock: The lock of this build.
        nodes: Packages of the lock; those that Spack has not pushed yet are skipped.

    Returns:
        Hashes of the packages that the instance has delivered.

    Raises:
        VerificationError: An entry is not what it should be.
        CommandError: They cannot be read.
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
    delivered = {digest for digest in wanted if (taken / f"{digest}.json").is_file()}
    for digest in sorted(delivered):
        _accept(wanted[digest], lock, taken, spack.buildcaches[0])
    shutil.rmtree(taken)
    return frozenset(delivered)


def _accept(node: Node, lock: Lock, taken: Path, cache: Path) -> None:
    """Move an entry with its parts into a build cache, the entry last."""
    entry = taken / f"{node.hash}.json"
    parts = [taken / blob.name for blob in _blobs(entry)]
    if not parts or not all(is_whole(part) for part in parts):
        raise refused(f"The package {node.label} is not complete.")
    if not any(_describes(part, node, lock) for part in parts):
        raise refused(f"The package {node.label} does not describe itself as the lock does.")
    if _has_whole(cache, node):
        return
    place = cache / entry_path(node)
    with file_errors(place):
        for part in parts:
            blob = cache / blob_path(part.name)
            blob.parent.mkdir(parents=True, exist_ok=True)
            # Two entries may share a part.
            shutil.copyfile(part, blob)
        place.parent.mkdir(parents=True, exist_ok=True)
        entry.replace(place)
        # Not the time of the build: the index has to be older.
        os.utime(place)


def _has_whole(cache: Path, node: Node) -> bool:
    """Whether a build cache has an undamaged entry of a package."""
    blobs = _blobs(cache / entry_path(node))
    return bool(blobs) and all(is_whole(cache / blob) for blob in blobs)


def _describes(part: Path, node: Node, lock: Lock) -> bool:
    """Whether a part is the description of a package, with all that it needs, as in the lock."""
    try:
        return describes(read_description(part), node, lock.rows)
    except (OSError, ValueError):
        return False


def _blobs(entry: Path) -> list[PurePosixPath]:
    """Paths of the parts of an entry (host) below its build cache; none if it is damaged."""
    try:
        if entry.lstat().st_size > LARGEST_ENTRY:
            return []
        return [blob_path(part["checksum"]) for part in read_json(entry)["data"]]
    except UNREADABLE:
        return []


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content)


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


def _entries(cache: Path) -> list[Path]:
    return list((cache / ENTRIES).glob(f"*/*{ENTRY}"))


def _hashes(cache: Path) -> frozenset[str]:
    """Hashes of the existing packages; file names are <name>-<version>-<hash>."""
    return frozenset(hash_in(path.name) for path in _entries(cache))


def _named(index: Path, cache: Path) -> frozenset[str] | None:
    """Hashes of the packages in an index; None if it is damaged."""
    try:
        (about,) = read_json(index)["data"]
        blob = blob_path(about["checksum"])
        content = read_bytes(cache / blob)
        return listed_in(content) if hashlib.sha256(content).hexdigest() == blob.name else None
    except UNREADABLE:
        return None


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
