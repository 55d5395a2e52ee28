"""This machine as an instance, for `--destructive-mode`: jobs, packages, commands."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slurm_factory.config_types import UNITS
from slurm_factory.constants import Deps
from slurm_factory.exceptions import ConfigurationError, LXDError
from slurm_factory.instances.base_contents import read_record
from slurm_factory.instances.instance import ENVIRONMENT, Instance, Mount
from slurm_factory.instances.network import both_spellings
from slurm_factory.plan.base_setup import BaseSetup, base_packages
from slurm_factory.util.machine import available_memory

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.job import Place
    from slurm_factory.plan.bases import Base

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@contextmanager
def this_machine(
    base: Base, settings: Settings, work: pathlib.Path, mounts: Sequence[Mount] = ()
) -> Iterator[Instance]:
    """This machine as an instance; writes only to `work` and the caches.

    Args:
        base: The release that this machine runs.
        settings: Settings of this site.
        work: Directory (host) of this build.
        mounts: The directories that an instance would see.
    """
    for mount in mounts:
        mount.source.mkdir(parents=True, exist_ok=True)
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
        mounts=tuple(mounts),
        record=machine_record(base),
    )


class HostExecutor:
    """Runs commands on this machine, on its own file system."""

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


BYTES_PER_JOB = 512 << 20
"""Maximum memory of one compiler; slurmctld's largest files take about 300 MiB."""


def choose_jobs(asked: int | None, settings: Settings, place: Place | None = None) -> int:
    """Number of parallel compilers: as requested, or by CPUs and memory.

    Uses the limit, because /proc/meminfo in an instance shows the machine's memory.

    Args:
        asked: What the user wants, if anything.
        settings: For the limits.
        place: The machine of another LXD; None: this one.

    Raises:
        ConfigurationError: The memory limit is too small for one compiler; it would not fail, but
            read its own code from disk again and again.
    """
    limit = settings.memory_limit
    if limit and size_in_bytes(limit) < BYTES_PER_JOB:
        raise ConfigurationError(
            f"The memory limit of {limit} is too small.",
            details=f"One compiler may need {BYTES_PER_JOB >> 20} MiB.",
            resolution="Raise SLURM_FACTORY_MEMORY_LIMIT, or unset it.",
        )
    cpus = settings.cpu_limit or (place.cpus if place else len(os.sched_getaffinity(0)))
    there = place.memory if place else available_memory()
    memory = size_in_bytes(limit) if limit else there
    return asked or max(1, min(cpus, memory // BYTES_PER_JOB))


def size_in_bytes(size: str) -> int:
    """`8GiB` as bytes; LXD's units."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", size)
    if match is None:
        raise ValueError(size)
    return int(float(match[1]) * UNITS[match[2]])


def machine_record(base: Base) -> dict[str, Any]:
    """The content of this machine, in the format of a base's record.

    Raises:
        LXDError: dpkg does not answer.
    """
    executor = HostExecutor({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    try:
        return read_record(_setup(base), executor)
    except (OSError, subprocess.SubprocessError) as error:
        raise LXDError(
            "The packages of this machine cannot be listed.",
            details=" ".join(str(error).split()),
            resolution="Run `dpkg-query --show` and correct what it reports, then run the command"
            " again.",
        ) from error


def require_build_packages(base: Base) -> None:
    """Check that everything a build needs is installed on this machine.

    Raises:
        LXDError: Packages are missing; names the command that installs them.
    """
    installed = {name.partition(":")[0] for name in machine_record(base)["packages"]}
    missing = [name for name in base_packages(_setup(base)) if name not in installed]
    if missing:
        raise LXDError(
            "This machine lacks packages that the build needs.",
            details=f"Missing: {' '.join(missing)}.",
            resolution="Run `slurm-factory setup --destructive-mode`, which installs them.",
        )


def _setup(base: Base) -> BaseSetup:
    """The Spack recipe does not run on this machine itself."""
    return BaseSetup(base, Deps.SYSTEM, platform.machine())
