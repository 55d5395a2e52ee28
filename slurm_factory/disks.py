"""Whether a disk is full, by what programs say and by trying."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from slurm_factory.exceptions import OutputError

FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
FULL = re.compile(
    rf"(?:: |\] |\()(?:{'|'.join(re.escape(os.strerror(number)) for number in FULL_ERRORS)})",
    re.IGNORECASE,
)
"""What programs print of them, where an error's text stands: compilers quote sources that mention
it. Limits of LXD's storage pools and of home directories are quotas; LXD writes small letters."""
NEARLY_FULL_BYTES = 64 << 20
"""A file system with less counts as the full one, since what did not fit may be gone again."""


def telling_of_full(lines: Iterable[str]) -> list[str]:
    """Those lines that tell of a full disk or quota, without the space around them."""
    return [line.strip() for line in lines if FULL.search(line)]


def has_no_room(directory: Path) -> bool:
    """Whether 64 MiB do not fit below a directory, by its file system or by a quota.

    A file server that cannot reserve space gets a byte of each block written (posix_fallocate(3)).

    Args:
        directory: Of this machine (host); a file without a name is made in it for a moment.

    Raises:
        OSError: The directory is not there.
    """
    if shutil.disk_usage(directory).free < NEARLY_FULL_BYTES:
        return True
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            os.posix_fallocate(file.fileno(), 0, NEARLY_FULL_BYTES)
    except OSError as error:
        return error.errno in FULL_ERRORS
    return False


def cache_is_full(what: str, cache: Path, details: str) -> OutputError:
    """The error for something that failed for want of room in the cache directory.

    Args:
        what: What failed, as the beginning of a sentence.
        cache: The cache directory (host).
        details: The line that tells of it.
    """
    return OutputError(
        f"{what}: the cache directory {cache} is full.",
        details=details,
        resolution="Run `slurm-factory clean` or free space there, then build again.",
    )
