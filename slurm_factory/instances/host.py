"""This very machine as an instance, for `--destructive-mode`."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from craft_providers import Executor
from typing_extensions import override

from slurm_factory.base_record import BaseSetup
from slurm_factory.constants import Deps
from slurm_factory.instances import ENVIRONMENT, Instance
from slurm_factory.instances.base import read_record
from slurm_factory.instances.surroundings import both_spellings

if TYPE_CHECKING:
    import io

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


class HostExecutor(Executor):
    """Runs commands here; knows no other file system than this machine's."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def _clean(self, env: dict[str, str | None] | None) -> dict[str, str]:
        merged = {**self._environment, **(env or {})}
        return {key: value for key, value in merged.items() if value is not None}

    @override
    def execute_popen(
        self,
        command: list[str],
        *,
        cwd: pathlib.PurePath | None = None,
        env: dict[str, str | None] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=cwd, env=self._clean(env), **kwargs)

    @override
    def execute_run(
        self,
        command: list[str],
        *,
        cwd: pathlib.PurePath | None = None,
        env: dict[str, str | None] | None = None,
        timeout: float | None = None,
        check: bool = False,
        **kwargs: Any,
    ) -> subprocess.CompletedProcess[Any]:
        return subprocess.run(
            command, cwd=cwd, env=self._clean(env), timeout=timeout, check=check, **kwargs
        )

    @override
    def pull_file(self, *, source: pathlib.PurePath, destination: pathlib.Path) -> None:
        shutil.copyfile(os.fspath(source), destination)

    @override
    def push_file(self, *, source: pathlib.Path, destination: pathlib.PurePath) -> None:
        shutil.copyfile(source, os.fspath(destination))

    @override
    def push_file_io(
        self,
        *,
        destination: pathlib.PurePath,
        content: io.BytesIO,
        file_mode: str,
        group: str = "root",
        user: str = "root",
    ) -> None:
        path = pathlib.Path(destination)
        path.touch(mode=0o600)
        path.write_bytes(content.read())
        path.chmod(int(file_mode, 8))

    @override
    def delete(self) -> None:
        """This machine stays."""

    @override
    def exists(self) -> bool:
        return True

    @override
    def mount(self, *, host_source: pathlib.Path, target: pathlib.PurePath) -> None:
        """Nothing is mounted: paths inside are paths of this machine."""

    @override
    def is_running(self) -> bool:
        return True
