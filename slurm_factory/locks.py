"""Locks of files (host), seen from outside: who holds one, and taking it only if nobody does."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def take_if_free(lock: Path) -> Iterator[bool]:
    """Take a lock that nobody holds, and keep it while the block runs.

    Programs that run in an instance can put anything in the place of a lock. Where there is no
    regular file, nobody holds a lock; filelock ends in an error there. A lock that cannot be looked
    at counts as held.

    Args:
        lock: File (host), which need not be there.

    Yields:
        Whether the lock is free; True also where there is none.
    """
    try:
        there = stat.S_ISREG(lock.lstat().st_mode)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(lock, flags) if there else None
    except (FileNotFoundError, NotADirectoryError):
        descriptor = None
    except OSError:
        yield False
        return
    if descriptor is None:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            free = False
        else:
            free = True
        yield free
    finally:
        os.close(descriptor)


@contextmanager
def share(lock: Path) -> Iterator[None]:
    """Hold a lock together with others, and keep out who wants it alone.

    Waits for whoever holds it alone.

    Args:
        lock: File (host).

    Raises:
        OSError: There is no such file, or it cannot be locked.
    """
    descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
