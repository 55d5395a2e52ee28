"""Spack and its recipes as directories of plain files, in which no git can look up a ref."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

VERSION = re.compile(r"""^(?:__version__|spack_version) = ["']([^"'\s]+)["']""", re.MULTILINE)


def directory_of(url: str) -> Path | None:
    """The directory (host) that a path or a file:// URL names; None for other URLs."""
    place = urlsplit(url)
    if place.scheme in {"http", "https"}:
        return None
    return Path(unquote(place.path)) if place.scheme == "file" else Path(url)


def is_repository(directory: Path) -> bool:
    """Whether a directory (host) is a repository's work tree, or a bare repository."""
    bare = (directory / "HEAD").is_file() and (directory / "objects").is_dir()
    return bare or (directory / ".git").exists()


def unpacked_at(url: str) -> Path | None:
    """The directory (host) with plain files at `url`; None if there is none that can be read."""
    directory = directory_of(url)
    try:
        plain = directory and directory.is_dir() and not is_repository(directory)
    except OSError:
        return None
    return directory if plain else None


def spack_version(directory: Path) -> str:
    """What the Spack in a directory (host) calls itself, such as 1.1.0; empty if it does not say.

    Spack keeps it in one file (lib/spack/spack/__init__.py, 0.16 to 1.1).
    """
    try:
        text = (directory / "lib/spack/spack/__init__.py").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    found = VERSION.search(text)
    return found[1] if found else ""
