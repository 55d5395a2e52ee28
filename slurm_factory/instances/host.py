"""This very machine as an instance, for `--destructive-mode`."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slurm_factory.base_record import BaseSetup
from slurm_factory.constants import Deps
from slurm_factory.instances import ENVIRONMENT, Instance
from slurm_factory.instances.base_contents import read_record
from slurm_factory.instances.surroundings import both_spellings

if TYPE_CHECKING:
    from slurm_factory.bases import Base
    from slurm_factory.config import Settings

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@contextmanager
def this_machine(base: Base, settings: Settings, work: pathlib.Path) -> Iterator[Instance]:
    """This machine as an instance; nothing outside `work` and the caches is written.

    Args:
        base: The release that this machine runs.
        settings: Of this site.
        work: Directory (host) of this build.
    """
    build_dir = work / "build"
    build_dir.mkdir(parents=True, exist_ok=True)
    environment = {**ENVIRONMENT, "PATH": SYSTEM_PATH, "HOME": str(work)}
    environment |= both_spellings(os.environ)
    executor = HostExecutor(environment)
    yield Instance(
        name="this machine",
        executor=executor,
        cache_on_host=settings.cache_dir,
        cache=pathlib.PurePosixPath(settings.cache_dir),
        build_dir=pathlib.PurePosixPath(build_dir),
        record=read_record(BaseSetup(base, Deps.SYSTEM), executor),
    )


class HostExecutor:
    """Runs commands here; knows no other file system than this machine's."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def _clean(self, env: dict[str, str | None] | None) -> dict[str, str]:
        merged = {**self._environment, **(env or {})}
        return {key: value for key, value in merged.items() if value is not None}

    def execute_popen(
        self,
        command: list[str],
        *,
        env: dict[str, str | None] | None = None,
        **kwargs: Any,
    ) -> subprocess.Popen[str]:
        """Start a command here."""
        return subprocess.Popen(command, env=self._clean(env), **kwargs)

    def execute_run(
        self,
        command: list[str],
        *,
        env: dict[str, str | None] | None = None,
        timeout: float | None = None,
        check: bool = False,
        **kwargs: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command here to its end."""
        return subprocess.run(command, env=self._clean(env), timeout=timeout, check=check, **kwargs)
