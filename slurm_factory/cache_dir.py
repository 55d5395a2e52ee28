"""The cache directory: made and marked, and refused if slurm-factory did not make it."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING

from slurm_factory.exceptions import OutputError
from slurm_factory.util.files import atomic_write, file_errors

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.config import Settings

MARK = ".slurm-factory-cache"
"""Marks a cache directory. Builds share its lock; `clean` needs it exclusively."""
MARK_TEXT = """\
slurm-factory made this directory. `slurm-factory clean` removes what builds left in it.
"""
TAG = "CACHEDIR.TAG"
TAG_TEXT = """\
Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by slurm-factory.
# For information about cache directory tags, see https://bford.info/cachedir/
"""
"""See the Cache Directory Tagging Specification: backups can skip the directory."""
CORRECT_IT = "Free space there, correct its permissions, or set SLURM_FACTORY_CACHE_DIR."
NO_CONTENT = {"lost+found"}
"""Entries of a new file system."""


def make_cache_dir(settings: Settings, owner: int | None = None) -> None:
    """Make the cache directory, for its owner alone, and mark it. An existing one keeps its mode.

    Args:
        settings: Settings of this site.
        owner: User id of its owner; None: this user.

    Raises:
        OutputError: It cannot be made, or is not a cache directory.
    """
    cache = settings.cache_dir
    with file_errors(cache, "used as the cache directory"):
        try:
            cache.mkdir(parents=True, mode=0o700)
        except FileExistsError:
            if not cache.is_dir():
                raise
            require_ours(settings, owner)
        _mark(cache)


def require_ours(settings: Settings, owner: int | None = None) -> None:
    """Refuse a directory of another user, or one that slurm-factory did not make.

    Without this, `SLURM_FACTORY_CACHE_DIR` at a directory with a `work` in it would let `clean`
    remove that. An empty directory may become a cache directory.

    Args:
        settings: Settings of this site.
        owner: User id of its owner; None: this user.

    Raises:
        OutputError: It is not a cache directory, or cannot be read.
    """
    cache = settings.cache_dir
    owner = os.getuid() if owner is None else owner
    with file_errors(cache, "used as the cache directory"):
        status = cache.stat()
        if status.st_uid != owner:
            raise unusable(cache, f"It belongs to the user with the id {status.st_uid}")
        if status.st_mode & 0o022:
            raise unusable(
                cache,
                f"Others may write to it (its mode is {stat.S_IMODE(status.st_mode):o})",
                f"Run `chmod go-w {shlex.quote(str(cache))}`, or set SLURM_FACTORY_CACHE_DIR.",
            )
        names = {entry.name for entry in cache.iterdir()} - NO_CONTENT
        if names and not is_marked(cache):
            raise _foreign(cache)
        _refuse_links(settings)


def is_marked(cache: Path) -> bool:
    """Whether a directory (host) contains the mark as a regular file."""
    try:
        return stat.S_ISREG((cache / MARK).lstat().st_mode)
    except FileNotFoundError:
        return False


def unusable(cache: Path, reason: str, resolution: str = CORRECT_IT) -> OutputError:
    """The error for a cache directory (host) that cannot be used; `reason` without its period."""
    return OutputError(
        f"The cache directory {cache} cannot be used.",
        details=f"{reason}.",
        resolution=resolution,
    )


def _mark(cache: Path) -> None:
    """Write both marks, our own first; its content shows that both are complete.

    A user who has removed CACHEDIR.TAG, to include the directory in backups, does not get it again.
    """
    mark = cache / MARK
    if is_marked(cache) and mark.lstat().st_size:
        return
    mark.touch(mode=0o644)
    with atomic_write(cache / TAG) as file:
        file.write(TAG_TEXT.encode())
    # Not a new file: another build may have locked this one by now.
    mark.write_text(MARK_TEXT, "utf-8")


def _foreign(cache: Path) -> OutputError:
    mark = shlex.quote(str(cache / MARK))
    return unusable(
        cache,
        f"It is not empty and has no file {MARK}, so slurm-factory may not have made it",
        "Set SLURM_FACTORY_CACHE_DIR to a new or empty directory. If an earlier"
        f" slurm-factory made this one, run `touch {mark}`.",
    )


def _refuse_links(settings: Settings) -> None:
    """A link could redirect slurm-factory to any directory."""
    for directory in settings.directories:
        if directory.is_symlink():
            raise unusable(
                settings.cache_dir,
                f"{directory} is a link, and slurm-factory does not follow links there",
                f"Remove the link: rm {shlex.quote(str(directory))}; or set"
                " SLURM_FACTORY_CACHE_DIR to a directory with free space.",
            )
