"""The files of a staged tree: walking and normalizing them."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from slurm_factory.exceptions import VerificationError

BAKED_PREFIX = re.compile(r"^prefix=(?P<prefix>/.*)$|^libdir=(?P<parent>/.*)/lib\w*$", re.MULTILINE)
"""Slurm's slurm.pc has no prefix, only the directories below it."""
BUILD_ONLY_SUFFIXES = frozenset({".a", ".la"})


def entries(tree: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below `tree` (host) with its own status, sorted; follows no symbolic links."""
    for entry in sorted(os.scandir(tree), key=lambda entry: entry.name):
        status = entry.stat(follow_symlinks=False)
        yield Path(entry.path), status
        if stat.S_ISDIR(status.st_mode):
            yield from entries(Path(entry.path))


def regular_files(tree: Path) -> Iterator[Path]:
    """The regular files below `tree` (host), sorted; of several hard links the first."""
    seen: set[tuple[int, int]] = set()
    for path, status in entries(tree):
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode) and identity not in seen:
            seen.add(identity)
            yield path


def symlinks(tree: Path) -> Iterator[Path]:
    """The symbolic links below `tree` (host), sorted."""
    return (path for path, status in entries(tree) if stat.S_ISLNK(status.st_mode))


def make_room(tree: Path, path: PurePosixPath) -> Path:
    """The place for a new file in a tree (host), with its directories, and with nothing there.

    A tree may contain links to other files in it: writing never goes through one.

    Args:
        tree: The tree.
        path: Path of the file, relative to the tree.

    Raises:
        VerificationError: One of its directories is something else, it is a directory, or it is
            outside the tree.
    """
    if path.is_absolute() or ".." in path.parts:
        raise _taken(path)
    for parent in reversed(path.parents[:-1]):
        directory = tree / parent
        if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
            raise _taken(parent)
        directory.mkdir(parents=True, exist_ok=True)
    place = tree / path
    if place.is_dir() and not place.is_symlink():
        raise _taken(path)
    place.unlink(missing_ok=True)
    return place


def _taken(path: PurePosixPath) -> VerificationError:
    return VerificationError(
        f"The tree cannot be completed: {path} is in the way.",
        details="It is a link, or not of the expected kind.",
        resolution="An honest build makes no such thing. Look at the build log.",
    )


def normalize(tree: Path) -> None:
    """Bring `tree` (host) into its final form.

    Removes `.la` and `.a` files and empty directories, sets modes to 0755 and 0644 (which also
    removes setuid, setgid and write permission for others), and makes pkg-config files find the
    tree from their own location.
    """
    _set_modes(tree)
    _remove_build_only_files(tree)
    _remove_empty_directories(tree)
    for path in regular_files(tree):
        if path.suffix == ".pc":
            _relocate_pkgconfig(path, tree)


def _set_modes(tree: Path) -> None:
    tree.chmod(0o755)
    for path, status in list(entries(tree)):
        if stat.S_ISLNK(status.st_mode):
            continue
        runs = stat.S_ISDIR(status.st_mode) or status.st_mode & 0o111
        path.chmod(0o755 if runs else 0o644)


def _remove_build_only_files(tree: Path) -> None:
    for path, status in list(entries(tree)):
        if path.suffix in BUILD_ONLY_SUFFIXES and not stat.S_ISDIR(status.st_mode):
            path.unlink()


def _remove_empty_directories(tree: Path) -> None:
    for parent, _, _ in os.walk(tree, topdown=False):
        if Path(parent) != tree and not os.listdir(parent):  # noqa: PTH208 (iterdir builds paths)
            Path(parent).rmdir()


def _relocate_pkgconfig(path: Path, tree: Path) -> None:
    """Derive the prefix from the location of the file itself (pkg-config(1), `pcfiledir`)."""
    text = path.read_text("utf-8", errors="surrogateescape")
    match = BAKED_PREFIX.search(text)
    if match is None:
        return
    baked = match["prefix"] or match["parent"]
    climb = "/".join([".."] * len(path.parent.relative_to(tree).parts))
    others = re.sub(r"^prefix=.*\n", "", text, flags=re.MULTILINE).replace(baked, "${prefix}")
    path.write_text(f"prefix=${{pcfiledir}}/{climb}\n{others}", "utf-8", errors="surrogateescape")
