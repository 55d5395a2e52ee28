"""What a tree has, as far as it decides how its cluster is configured and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.package.licenses import IDENTITY
from slurm_factory.util.documents import parse_json, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER = re.compile(r"#define\s+SLURM_VERSION_NUMBER\s+0x([0-9a-f]{6})")
"""In slurm/slurm_version.h; two digits for each part of the release."""
WITHOUT_X11 = b"X11 forwarding not built in"
"""Message of src/common/x11_util.c or its callers in a Slurm without it."""
MAIN_LIBRARY = "lib/slurm/libslurmfull.so"


@dataclass(frozen=True)
class Tree:
    """A tree, before it is packed or after it was unpacked.

    Attributes:
        path: Its directory (host), with bin, sbin and lib.
        top: Name of that directory in the tarball.
        release: Release of Slurm, such as 24.11.5; "" if the tree does not say.
        x11: Whether Slurm was built to forward X11.
    """

    path: Path
    top: str
    release: str
    x11: bool

    @property
    def series(self) -> str:
        """Series of Slurm, such as 24.11."""
        return ".".join(self.release.split(".")[:2])

    def has(self, file: str) -> bool:
        """Whether the tree has a file (path within it)."""
        return (self.path / file).is_file()

    def has_plugin(self, name: str) -> bool:
        """Whether it has a plugin of Slurm, such as auth_jwt."""
        return self.has(f"lib/slurm/{name}.so")

    @property
    def tokens(self) -> bool:
        """JSON Web Tokens."""
        return self.has_plugin("auth_jwt")

    @property
    def accounting(self) -> bool:
        """By slurmdbd in MariaDB."""
        return self.has_plugin("accounting_storage_mysql")


def look_at(path: Path) -> Tree:
    """Look at a tree, whose files nobody trusts.

    Args:
        path: Its directory (host).

    Raises:
        OSError: A file cannot be read.
    """
    library = path / MAIN_LIBRARY
    # Links that lead elsewhere were refused when it was received or unpacked.
    content = library.read_bytes() if library.is_file() else b""
    release = next(_releases(path), "")
    return Tree(path, path.name, release, x11=bool(content) and WITHOUT_X11 not in content)


def _releases(path: Path) -> Iterator[str]:
    try:
        told = parse_json(read_text(path / IDENTITY))["release"]
        if re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+_-]*", told):
            yield told
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        number = NUMBER.search(read_text(path / "include/slurm/slurm_version.h"))
    except (OSError, ValueError):
        return
    if number:
        parts = [int(number[1][at : at + 2], 16) for at in (0, 2, 4)]
        yield f"{parts[0]:02}.{parts[1]:02}.{parts[2]}"
