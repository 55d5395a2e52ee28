"""Locks: the spack.lock of a build, and saved ones for later builds of the same plan."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from slurm_factory.util.documents import parse_json, read_text
from slurm_factory.util.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

RUN_TIME = frozenset({"link", "run"})
NAME = re.compile("[a-z0-9_][a-z0-9_-]*")
"""Spack's own (spack.util.naming, valid_module_name), in lower case."""
HASH = re.compile("[a-z2-7]{32}")
HASH_SHOWN = 7
"""Characters of a hash in Spack's output."""


@dataclass(frozen=True)
class Node:
    """A package of the graph.

    Attributes:
        name: Name of the package.
        version: In Spack's notation.
        hash: Hash of the package with all its dependencies.
        external: Prefix (instance) of an external of the base; None for packages that Spack builds.
        needs: Hashes and kinds of its dependencies.
        row: All that the lock says of it.
    """

    name: str
    version: str
    hash: str
    external: PurePosixPath | None
    needs: tuple[tuple[str, frozenset[str]], ...]
    row: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def label(self) -> str:
        """Name and version, as Spack prints them."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Lock:
    """A graph with its roots, by hash, and the text that it was read from."""

    roots: tuple[str, ...]
    nodes: Mapping[str, Node]
    text: str = field(default="", compare=False, repr=False)

    @property
    def packages(self) -> tuple[Node, ...]:
        """The packages that Spack installs: all but externals."""
        return tuple(node for node in self.nodes.values() if node.external is None)

    @property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """All that the lock says of each package, by hash."""
        return {digest: node.row for digest, node in self.nodes.items()}

    @property
    def run_time(self) -> tuple[Node, ...]:
        """Run-time dependencies of the roots, roots first, then by distance."""
        return tuple(self.nodes[digest] for digest in self._reached())

    def _reached(self) -> Iterator[str]:
        wave, seen = dict.fromkeys(self.roots), set(self.roots)
        while wave:
            yield from wave
            needs = (need for digest in wave for need in self.nodes[digest].needs)
            wave = dict.fromkeys(d for d, kinds in needs if kinds & RUN_TIME and d not in seen)
            seen |= {*wave}


def read_lock(text: str) -> Lock:
    """The graph in a spack.lock.

    Raises:
        ValueError: It is invalid or incomplete.
    """
    try:
        document = parse_json(text)
        nodes = {digest: _node(digest, row) for digest, row in document["concrete_specs"].items()}
        lock = Lock(tuple(root["hash"] for root in document["roots"]), nodes, text)
        known = all(need in nodes for node in nodes.values() for need, _ in node.needs)
        complete = known and nodes.keys() >= {*lock.roots}
        named_well = all(NAME.fullmatch(n.name) and HASH.fullmatch(n.hash) for n in nodes.values())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a spack.lock: {error}") from error
    # Names and hashes become parts of paths.
    if not named_well:
        raise ValueError("a spack.lock with impossible names of packages")
    if not lock.roots or not complete:
        raise ValueError("a spack.lock that lacks packages")
    return lock


def load_lock(path: Path) -> str | None:
    """Text of the lock saved at `path` (host); None if it is missing or damaged."""
    try:
        text = read_text(path)
        read_lock(text)
    except (OSError, ValueError):
        return None
    return text


def save_lock(text: str, path: Path) -> None:
    """Save a lock at `path` (host), whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())


def lock_key(project: Mapping[str, str], repository: str, record: Mapping[str, Any]) -> str:
    """Hash of all inputs of the concretization.

    Args:
        project: Text of each file of the project.
        repository: Digest of our own package recipes.
        record: Record of the base. Only packages that Spack uses count.
    """
    about_base = {name: record.get(name) for name in ("base", "externals", "checkouts")}
    document = [dict(project), repository, about_base]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _node(digest: str, row: Mapping[str, Any]) -> Node:
    external = row.get("external")
    needs = tuple(
        (need["hash"], frozenset(need["parameters"]["deptypes"]))
        for need in row.get("dependencies", ())
    )
    prefix = PurePosixPath(external["path"] or "/") if external else None
    if not isinstance(row["name"], str) or not isinstance(row["version"], str):
        raise TypeError(f"{digest} has no name or version")
    return Node(row["name"], row["version"], digest, prefix, needs, row)
