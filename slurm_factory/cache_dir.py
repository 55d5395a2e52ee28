"""The cache directory: made and marked, and refused where it is not one of ours."""

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
"""A directory with this file is ours. Builds hold its lock together; `clean` needs it alone."""
MARK_TEXT = """\
slurm-factory made this directory. `slurm-factory clean` removes what builds left in it.
"""
TAG = "CACHEDIR.TAG"
TAG_TEXT = """\
Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by slurm-factory.
# For information about cache directory tags, see https://bford.info/cachedir/
"""
"""By the Cache Directory Tagging Specification: backups can leave out what can be made again."""
NO_CONTENT = {"lost+found"}
"""What a new file system has."""


def make_cache_dir(settings: Settings, owner: int | None = None) -> None:
    """Make the cache directory, for its owner alone, and mark it.

    One that is there keeps its mode.

    Args:
        settings: Of this site.
        owner: User id of who shall have it; None: this user.

    Raises:
        OutputError: It cannot be made, or is not ours.
    """
    cache = settings.cache_dir
    with file_errors(cache, "used"):
        try:
            cache.mkdir(parents=True, mode=0o700)
        except FileExistsError:
            if not cache.is_dir():
                raise
            require_ours(settings, owner)
        _mark(cache)


def require_ours(settings: Settings, owner: int | None = None) -> None:
    """Refuse a directory that is somebody else's, or holds what slurm-factory did not make.

    Without this, `SLURM_FACTORY_CACHE_DIR` at a directory with a `work` in it would let `clean`
    remove that. An empty directory may become a cache directory.

    Args:
        settings: Of this site.
        owner: User id of who shall have it; None: this user.

    Raises:
        OutputError: It is not ours, or cannot be read.
    """
    cache = settings.cache_dir
    owner = os.getuid() if owner is None else owner
    with file_errors(cache, "used"):
        status = cache.stat()
        if status.st_uid != owner:
            raise unusable(cache, f"It belongs to the user with the id {status.st_uid}")
        if status.st_mode & 0o022:
            raise OutputError(
                f"The cache directory {cache} cannot be used.",
                details=f"Others may write to it (its mode is {stat.S_IMODE(status.st_mode):o}).",
                resolution=f"Run `chmod go-w {shlex.quote(str(cache))}`, or set"
                " SLURM_FACTORY_CACHE_DIR.",
            )
        names = {entry.name for entry in cache.iterdir()} - NO_CONTENT
        if names and not is_marked(cache):
            raise _foreign(cache)
        _refuse_links(settings)


def is_marked(cache: Path) -> bool:
    """Whether a directory (host) has our mark, as a regular file."""
    try:
        return stat.S_ISREG((cache / MARK).lstat().st_mode)
    except FileNotFoundError:
        return False


def unusable(cache: Path, reason: str) -> OutputError:
    """The error for a cache directory (host) that does not serve as one."""
    return OutputError(
        f"The cache directory {cache} cannot be used.",
        details=f"{reason}.",
        resolution="Free space there, correct its permissions, or set SLURM_FACTORY_CACHE_DIR.",
    )


def _mark(cache: Path) -> None:
    """Write both marks, ours first, which says by its content that they are complete.

    Who has removed the other one, so that backups take the directory, shall not get it again.
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
    return OutputError(
        f"The cache directory {cache} cannot be used.",
        details=f"It is not empty, and has no {MARK}: slurm-factory removes nothing from a"
        " directory that it may not have made.",
        resolution="Set SLURM_FACTORY_CACHE_DIR to a new or an empty directory. One that an earlier"
        f" slurm-factory has made becomes a cache directory again by `touch {mark}`.",
    )


def _refuse_links(settings: Settings) -> None:
    """Programs in an instance could lead this one anywhere by a link."""
    for directory in settings.directories:
        if directory.is_symlink():
            raise OutputError(
                f"The cache directory {settings.cache_dir} cannot be used.",
                details=f"{directory} is a link, which slurm-factory does not follow there.",
                resolution=f"Remove the link: rm {shlex.quote(str(directory))}; or set"
                " SLURM_FACTORY_CACHE_DIR to where there is room.",
            )
