"""Locks between builds with one cache directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

if TYPE_CHECKING:
    from slurm_factory.output import Reporter


@contextmanager
def locked(path: Path, what: str, reporter: Reporter) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: Of the lock file (host); made when missing, as its directory is.
        what: That which only one build at a time may make, for people.
        reporter: Is told when another build holds the lock.

    Raises:
        OSError: The file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        reporter.note(f"Waiting for {what}, which another build may be making")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
