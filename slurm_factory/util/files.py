"""Atomic writes, full disks, and errors that name the file."""

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
from slurm_factory.util.signals import signals_held

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
FULL = re.compile(
    rf"(?:: |\] |\()(?:{'|'.join(re.escape(os.strerror(number)) for number in FULL_ERRORS)})",
    re.IGNORECASE,
)
"""Messages of programs about them, at the position of an error text, because compilers quote
sources that contain such text. Limits of LXD's storage pools and of home directories are quotas;
LXD writes lower case."""
NOT_WRITTEN = (*FULL_ERRORS, errno.EROFS, errno.EFBIG)
"""Errors that only writing can cause."""
NEARLY_FULL_BYTES = 64 << 20
"""A file system with less free space counts as full, because the file that did not fit may be
gone."""


def disk_full_lines(lines: Iterable[str]) -> list[str]:
    """The stripped lines that report a full disk or quota."""
    return [line.strip() for line in lines if FULL.search(line)]


def has_no_room(directory: Path) -> bool:
    """Whether 64 MiB do not fit below a directory, because of its file system or a quota.

    On a file server that cannot reserve space, it writes a byte of each block (posix_fallocate(3)).

    Args:
        directory: Directory (host); it briefly gets a file without a name.

    Raises:
        OSError: The directory does not exist.
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
    """The error for a failure because of a full cache directory.

    Args:
        what: The failure, as the beginning of a sentence.
        cache: The cache directory (host).
        details: The error line.
    """
    return OutputError(
        f"{what}: the cache directory {cache} is full.",
        details=details,
        resolution="Run `slurm-factory clean` or free space there, then build again.",
    )


def lies_inside(directory: Path, path: Path) -> bool:
    """Whether `path` (host), symbolic links resolved, is `directory` or below it."""
    # Path.resolve raises on a loop of links, realpath does not.
    return Path(os.path.realpath(path)).is_relative_to(directory.resolve())


@contextmanager
def atomic_write(destination: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name if the block succeeds, and disappears if it fails.

    Until then it has a unique name beside `destination`. Of several concurrent ones, the last
    stays.

    Args:
        destination: File to write or replace (host); its directory must exist.

    Raises:
        OSError: It cannot be written.
    """
    temporary = None
    try:
        with signals_held():
            name = f".{destination.name}."
            descriptor, temporary = tempfile.mkstemp(prefix=name, dir=destination.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(temporary).replace(destination)
    except BaseException:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> Path:
    """Write a file (host), with the directories it needs, and return its path.

    Raises:
        OutputError: It cannot be written.
    """
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return path


@contextmanager
def file_errors(path: Path, done: str = "written") -> Iterator[None]:
    """Tell what the operating system refuses in the block as an error of ours.

    Args:
        path: The file or directory (host) that the block is about.
        done: The operation of the block, such as `read`.

    Raises:
        OutputError: As `file_error` makes it, instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise file_error(error, path, done) from error


def file_error(error: OSError, path: Path, done: str = "written") -> OutputError:
    """The error for a file or directory (host) that the operating system refuses.

    Another file, which was to be read for it, is named instead.

    Args:
        error: The error of the operating system.
        path: The file or directory that was to be used.
        done: The failed operation, such as `read`.
    """
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    if error.errno in NOT_WRITTEN:
        done = "written"
    elif _is_elsewhere(named, path) and not error.filename2:
        path, done = named, "read"
    reason = error.strerror or str(error)
    place = shlex.quote(str(path.parent))
    if error.errno in FULL_ERRORS:
        way = f"Free space there (df -h {place}; slurm-factory clean --caches)"
    else:
        way = f"Correct the permissions or limits there (ls -ld {place})"
    return OutputError(
        f"{path} could not be {done}.",
        details=f"{reason}." if path == named else f"{reason}: {named}.",
        resolution=f"{way}, or set SLURM_FACTORY_CACHE_DIR to another directory.",
    )


def _is_elsewhere(named: Path, path: Path) -> bool:
    """Neither is below the other, nor beside it, where files are written at first."""
    near = named.parent == path.parent or path.is_relative_to(named) or named.is_relative_to(path)
    return named.is_absolute() and not near
