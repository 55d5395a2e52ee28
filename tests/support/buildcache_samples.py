"""Build caches of this machine with packages that nobody has compiled, and keys to sign them."""

import gzip
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_factory.buildcaches.layout import (
    ARCHIVE_TYPE,
    SPEC_TYPE,
    Entry,
    Part,
    blob_path,
    entry_path,
)
from slurm_factory.recipes.spack.lock import Lock, Node


def description(lock: Lock, node: Node) -> list[Mapping[str, Any]]:
    """The rows of a package and of all that it needs, as Spack writes them."""
    needs = (row for need, _ in node.needs for row in description(lock, lock.nodes[need]))
    return [node.row, *needs]


def put_blob(cache: Path, content: bytes, media_type: str) -> Part:
    digest = hashlib.sha256(content).hexdigest()
    blob = cache / blob_path(digest)
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    return Part(digest, len(content), media_type)


def add_package(cache: Path, lock: Lock, node: Node, content: bytes = b"") -> Path:
    """Let a build cache have a package; returns its entry."""
    rows = json.dumps({"spec": {"_meta": {"version": 5}, "nodes": description(lock, node)}})
    entry = Entry(
        put_blob(cache, gzip.compress(rows.encode(), mtime=0), SPEC_TYPE),
        put_blob(cache, gzip.compress(content or node.label.encode(), mtime=0), ARCHIVE_TYPE),
    )
    place = cache / entry_path(node)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(entry.text())
    return place


@dataclass(frozen=True)
class Signer:
    """Somebody who signs packages.

    Attributes:
        home: Directory of their GnuPG.
        name: Names their key.
    """

    home: Path
    name: str

    @property
    def keys(self) -> Path:
        """File with their public key."""
        return self.home / "keys.asc"


@contextmanager
def signer(name: str, *options: str) -> Iterator[Signer]:
    """Somebody with a key, and no agent of theirs afterwards.

    Args:
        name: Their name.
        options: Of gpg, such as `--faked-system-time`.
    """
    # GnuPG's sockets need a short path.
    with tempfile.TemporaryDirectory() as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", *options]
        address = f"{name}@toys.example"
        key = ["--passphrase", "", "--quick-generate-key", f"{name} <{address}>"]
        expires = "1d" if options else "never"
        someone = Signer(Path(home), address)
        try:
            subprocess.run([*gpg, *key, "ed25519", "sign", expires], check=True)
            with someone.keys.open("wb") as file:
                subprocess.run([*gpg, "--armor", "--export"], check=True, stdout=file)
            yield someone
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
