"""Files that are there whole or not at all, full disks, and errors that say which file."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from slurm_factory.exceptions import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextmanager
def appearing(destination: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when the block ends well, and vanishes when it does not.

    Until then it lies beside `destination` under a name that no other process has. Of several
    that are written at the same time, the last one stays.

    Args:
        destination: File to write or replace (host); its directory has to be there.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        temporary.replace(destination)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> Path:
    """Write a file (host), with the directories it needs, and return its path.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise not_written(path, error) from error
    return path


def not_written(path: Path, error: OSError) -> OutputError:
    """The error for a file or directory (host) that the operating system does not let us write.

    Another file that was to be read for it is named instead.
    """
    cause = _read_instead(path, error)
    shown = cause or path
    directory = shlex.quote(str(shown.parent))
    if error.errno in FULL_ERRORS:
        resolution = f"Free space there: df -h {directory}; slurm-factory clean --caches"
    else:
        resolution = f"Look at the permissions and limits there: ls -ld {directory}"
    return OutputError(
        f"{shown} could not be {'read' if cause else 'written'}.",
        details=str(error),
        resolution=resolution,
    )


def _read_instead(path: Path, error: OSError) -> Path | None:
    """The file that an error is about, where that lies elsewhere and nothing is renamed."""
    if not isinstance(error.filename, str) or error.filename2 or error.errno in FULL_ERRORS:
        return None
    named = Path(error.filename)
    beside = named.parent == path.parent or path.is_relative_to(named)
    return None if beside else named
