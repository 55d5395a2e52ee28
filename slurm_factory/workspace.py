"""The directories of one build: work, logs, and its lock."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from slurm_factory.cache_dir import MARK, make_cache_dir, unusable
from slurm_factory.exceptions import (
    BuildError,
    SlurmFactoryError,
    SpackError,
    VerificationError,
)
from slurm_factory.util.documents import read_text
from slurm_factory.util.files import file_errors
from slurm_factory.util.locks import Notes, is_running, share

if TYPE_CHECKING:
    from slurm_factory.config import Settings

BUILD_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-z-]+-[0-9a-f]{6}")
"""Format of `new_build_id`."""
WAITING_FOR_CLEAN = "Waiting for slurm-factory clean, which removes what builds share"
EVIDENT = (BuildError, SpackError, VerificationError)
"""Failures of what was built, and not of LXD, the disk or the network."""
BEGINNING = 60.0
"""Seconds after which a lock file that nobody has locked is not that of a build that begins."""
NEEDED_BYTES = 1 << 30
"""Enough for a stage, a tree and two sets of tarballs."""


@dataclass(frozen=True)
class Workspace:
    """The directories of one build on this machine (host paths)."""

    build_id: str
    settings: Settings

    @property
    def work(self) -> Path:
        """Staging directory; deleted after success."""
        return self.settings.work_dir / self.build_id

    @property
    def input(self) -> Path:
        """Files that this program gives to the instance, which cannot change them."""
        return self.work / "input"

    @property
    def artifacts(self) -> Path:
        """The files of the package, until they are published."""
        return self.work / "artifacts"

    @property
    def lock(self) -> Path:
        """Lock file of the running build; it contains the LXD project. A killed build leaves it."""
        return self.settings.work_dir / f"{self.build_id}.lock"

    @property
    def log(self) -> Path:
        """The output of the build."""
        return self.settings.logs_dir / self.build_id / "build.log"


def new_build_id(version: str) -> str:
    """A name that sorts by time and is valid for an instance, such as
    20251122-171530-25-05-a1b2c3."""
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{now}-{version.replace('.', '-')}-{secrets.token_hex(3)}"


@contextmanager
def open_workspace(
    build_id: str, settings: Settings, notes: Notes | None = None
) -> Iterator[Workspace]:
    """Make and lock the build's directories.

    Staged files stay after a failure that can be looked into, without the lock. `clean` does not
    touch caches and bases while the mark of the cache directory is locked.

    Args:
        build_id: Id of the build.
        settings: Settings of this site.
        notes: Shows a message before waiting for `clean`.

    Raises:
        OutputError: The cache directory cannot be written or is full.
    """
    workspace = Workspace(build_id, settings)
    prepare_cache(settings)
    mark = settings.cache_dir / MARK
    with share(mark, WAITING_FOR_CLEAN, notes), filelock.FileLock(workspace.lock):
        workspace.lock.write_text(settings.lxd_place)
        workspace.work.mkdir()
        try:
            yield workspace
        except SlurmFactoryError as error:
            _forget_in_vain(workspace, error)
            raise
        except BaseException:
            forget(workspace)
            raise
        forget(workspace)


@contextmanager
def open_scratch(purpose: str, settings: Settings, notes: Notes | None = None) -> Iterator[Path]:
    """A directory for files on their way to or from elsewhere; nothing of it stays.

    If the program is killed, it goes as what killed builds have left does.

    Args:
        purpose: A word for its name.
        settings: Settings of this site.
        notes: Shows a message before waiting for `clean`.

    Raises:
        OutputError: The cache directory cannot be written or is full.
    """
    workspace = Workspace(new_build_id(purpose), settings)
    prepare_cache(settings)
    mark = settings.cache_dir / MARK
    with share(mark, WAITING_FOR_CLEAN, notes), filelock.FileLock(workspace.lock):
        try:
            workspace.lock.write_text(settings.project_name)
            workspace.work.mkdir()
            yield workspace.work
        finally:
            forget(workspace)


def prepare_cache(settings: Settings) -> None:
    """Make the cache directory and the directories in it, for this user alone.

    Raises:
        OutputError: It cannot be written or is full.
    """
    cache = settings.cache_dir
    directories = (
        *(settings.builds_dir, settings.source_cache_dir, settings.ccache_dir),
        *(settings.images_dir, settings.logs_dir, settings.work_dir),
    )
    make_cache_dir(settings)
    with file_errors(cache, "used as the cache directory"):
        for directory in directories:
            directory.mkdir(exist_ok=True)
        # An instance may leave programs there that run as this user.
        settings.ccache_dir.chmod(0o700)
        free = shutil.disk_usage(cache).free
    if not os.access(cache, os.W_OK | os.X_OK):
        raise unusable(cache, "Permission denied")
    if free < NEEDED_BYTES:
        raise unusable(cache, f"Only {free >> 20} MiB are free; {NEEDED_BYTES >> 20} are needed")


def killed_builds(settings: Settings) -> Iterator[Workspace]:
    """Builds of this LXD project whose lock files are there and free."""
    for lock in sorted(settings.work_dir.glob("*.lock")):
        if not BUILD_ID.fullmatch(lock.stem):
            continue
        with suppress(OSError, ValueError):
            # Read first: a build that begins makes the file, locks it, and then writes.
            text, age = read_text(lock), time.time() - lock.stat().st_mtime
            begins = not text and age < BEGINNING
            if not begins and text in {"", settings.lxd_place} and not is_running(lock):
                yield Workspace(lock.stem, settings)


def forget(workspace: Workspace) -> None:
    """Remove what a build has staged, and its lock."""
    shutil.rmtree(workspace.work, ignore_errors=True)
    workspace.lock.unlink(missing_ok=True)


def note_instance(lock: Path) -> None:
    """Note that an instance may be left of a build (lock, host), for the next one to delete."""
    with suppress(OSError):
        (lock.with_suffix("") / "instance").touch()


def _forget_in_vain(workspace: Workspace, error: SlurmFactoryError) -> None:
    """Keep what can be looked into, or is finished. The lock stays where an instance may."""
    if isinstance(error, EVIDENT) or any(workspace.artifacts.glob("*-manifest.json")):
        workspace.lock.unlink()
        return
    with suppress(OSError):
        workspace.input.rmdir()
    launched = any(workspace.work.iterdir())
    shutil.rmtree(workspace.work, ignore_errors=True)
    if not launched:
        workspace.lock.unlink()
