"""Locks between builds with one cache directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock


@contextmanager
def locked(path: Path, what: str, on_line: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: Of the lock file (host); made when missing, as its directory is.
        what: That which only one build at a time may make, for people.
        on_line: Is told when another build holds the lock.

    Raises:
        OSError: The file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        on_line(f"Waiting for {what}, which another build may be making")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
