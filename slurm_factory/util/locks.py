"""File locks (host): exclusive, shared, and checks from outside."""

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
    """Shows messages to the user, as a Reporter does."""

    def note(self, text: str, /) -> None:
        """Show one."""


@contextmanager
def take_if_free(lock: Path) -> Iterator[bool]:
    """Take a free lock, and hold it while the block runs.

    Somebody may have put anything in the place of a lock file. If it is not a regular file, it
    is not locked; filelock would fail there. A lock that cannot be checked counts as held.

    Args:
        lock: File (host), which need not exist.

    Yields:
        Whether the lock is free; True also if there is no file.
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
    """Hold a shared lock, which excludes exclusive holders. Waits for an exclusive holder.

    Args:
        lock: File (host).
        waiting: What is waited for, a sentence for people.
        notes: Shows a message before waiting.

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
        path: Path of the lock file (host); made if missing, with its directory.
        what: Name of the object that only one build at a time may make.
        notes: Shows a message if another build holds the lock.

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

    A lock of another user, which cannot be checked, counts as running.
    """
    with take_if_free(lock) as free:
        return not free


def is_visible(lock: Path) -> bool:
    """Whether this user can check a lock, if there is one."""
    try:
        lock.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return os.access(lock, os.R_OK | os.W_OK)
