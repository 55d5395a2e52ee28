"""Locks of files (host): held by one, shared, or looked at from outside."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import filelock


class Notes(Protocol):
    """Takes sentences for people, as a Reporter does."""

    def note(self, text: str, /) -> None:
        """Show one."""


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
def share(lock: Path, waiting: str = "", notes: Notes | None = None) -> Iterator[None]:
    """Hold a lock together with others, and keep out who wants it alone.

    Waits for whoever holds it alone.

    Args:
        lock: File (host).
        waiting: What is waited for, a sentence for people.
        notes: Is told so before it has to be waited for.

    Raises:
        OSError: There is no such file, or it cannot be locked.
    """
    descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if notes:
                notes.note(waiting)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, what: str, notes: Notes) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: Of the lock file (host); made when missing, as its directory is.
        what: That which only one build at a time may make, for people.
        notes: Is told when another build holds the lock.

    Raises:
        OSError: The file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        notes.note(f"Waiting for {what}, which another build may be making")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_running(lock: Path) -> bool:
    """Whether the build that this lock file belongs to still runs.

    A lock of somebody else, which cannot be looked at, counts as running.
    """
    with take_if_free(lock) as free:
        return not free


def is_visible(lock: Path) -> bool:
    """Whether this user could look at a lock, if there is one."""
    try:
        lock.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return os.access(lock, os.R_OK | os.W_OK)
