"""The instance of one build: launched, given the cache and its limits, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from craft_providers import ProviderError

from slurm_factory.constants import INSTANCE_BUILD, INSTANCE_CACHE
from slurm_factory.exceptions import (
    ConfigurationError,
    DownloadError,
    InterruptedBuildError,
    LXDError,
    OutputError,
    SlurmFactoryError,
)
from slurm_factory.instances.instance import ENVIRONMENT, Instance, enter_command
from slurm_factory.instances.launch import CLIENT_ERRORS, Launch, launch_copy, unreachable
from slurm_factory.instances.lxc import (
    KEPT_KEY,
    LOCAL,
    LOCK_KEY,
    RUNNING,
    delete_instance,
    delete_quietly,
    delete_unfinished,
    instance_status,
    lxc,
)
from slurm_factory.instances.network import both_spellings
from slurm_factory.util.signals import signals_held

if TYPE_CHECKING:
    from craft_providers import lxd

    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter

NOTHING_TO_SEE = (ConfigurationError, DownloadError, LXDError, OutputError)
"""Failures of which nothing in the instance tells more: with an LXDError it is gone or does not
run, and a full disk would stay full with it."""


@contextmanager
def lxd_instance(launch: Launch, settings: Settings, reporter: Reporter) -> Iterator[Instance]:
    """An instance copied from the cached base, gone afterwards.

    After a failure that it can tell more of, it is kept, and the error tells how to enter it; after
    another, an interruption and success it is deleted unless `launch.keep` says otherwise.

    Args:
        launch: What to launch.
        settings: Of this site.
        reporter: Is told what happens, and warned when the instance cannot be deleted in the end.

    Raises:
        LXDError: No instance could be had.
        ConfigurationError: A proxy of the environment cannot be one for instances.
        OSError: The directory of images cannot be written.
    """
    try:
        instance = _equip(launch, settings, reporter, *launch_copy(launch, settings, reporter))
    except BaseException:
        with signals_held():
            delete_unfinished(launch.name, settings.project_name)
        raise
    try:
        yield instance
    except SlurmFactoryError as error:
        vain = isinstance(error, NOTHING_TO_SEE) and not launch.keep
        notice = _break_off(launch, settings) if vain else _kept_notice(launch, settings)
        error.resolution = f"{error.resolution} {notice}".strip()
        raise
    except KeyboardInterrupt as error:
        left = _break_off(launch, settings)
        if left:
            raise InterruptedBuildError("Interrupted.", resolution=left) from error
        raise
    except BaseException:
        _break_off(launch, settings)
        raise
    if launch.keep:
        with suppress(LXDError):
            _mark_kept(launch.name, settings.project_name)
    else:
        try:
            with signals_held():
                delete_instance(launch.name, settings.project_name)
        except LXDError as error:
            # The work is done all the same.
            reporter.warning(f"{_left(launch)} {error.brief}")


def _equip(
    launch: Launch,
    settings: Settings,
    reporter: Reporter,
    executor: lxd.LXDInstance,
    record: Mapping[str, Any],
) -> Instance:
    """Mount the cache and set the limits."""
    limits = {
        "limits.cpu": settings.cpu_limit,
        "limits.memory": settings.memory_limit,
        "limits.processes": settings.process_limit,
        LOCK_KEY: launch.lock,
    }
    pairs = [f"{key}={value}" for key, value in limits.items() if value is not None]
    lxc("config", "set", f"{LOCAL}{launch.name}", *pairs, project=settings.project_name)
    try:
        executor.mount(host_source=settings.cache_dir, target=INSTANCE_CACHE)
    except ProviderError as error:
        raise LXDError(
            f"{settings.cache_dir} could not be mounted in the instance.",
            details=" ".join((error.details or error.brief).split()),
            resolution="Run `slurm-factory setup`, which writes the id map that this needs.",
        ) from error
    except (subprocess.SubprocessError, *CLIENT_ERRORS) as error:
        raise unreachable(error) from error
    executor.default_command_environment.update(ENVIRONMENT)
    return Instance(
        name=launch.name,
        executor=executor,
        cache_on_host=settings.cache_dir,
        cache=INSTANCE_CACHE,
        build_dir=INSTANCE_BUILD,
        record=record,
        project=settings.project_name,
        reporter=reporter,
        secrets=both_spellings(os.environ),
    )


def _kept_notice(launch: Launch, settings: Settings) -> str:
    """What the user has to know about an instance that is kept; empty where it is not there."""
    project = settings.project_name
    try:
        status = instance_status(launch.name, project)
        if status is not None:
            _mark_kept(launch.name, project)
    except LXDError:
        return f"The instance {launch.name} may be left; run `slurm-factory clean` when LXD runs."
    if status is None:
        return ""
    if status != RUNNING:
        return f"The instance is kept: lxc --project {project} start {LOCAL}{launch.name}"
    return f"The instance is kept: {enter_command(launch.name, project)}"


def _mark_kept(name: str, project: str) -> None:
    """Else the next build would take it for one whose build was killed."""
    lxc("config", "set", f"{LOCAL}{name}", f"{KEPT_KEY}=yes", project=project)


def _break_off(launch: Launch, settings: Settings) -> str:
    """End everything in the instance, which only its deletion or restart surely does.

    Returns:
        What the user has to know about an instance that is left; empty where none is.
    """
    with signals_held():
        if launch.keep:
            with suppress(LXDError):
                lxc("restart", "--force", f"{LOCAL}{launch.name}", project=settings.project_name)
            return _kept_notice(launch, settings)
        if delete_quietly(launch.name, settings.project_name):
            return ""
        return _left(launch)


def _left(launch: Launch) -> str:
    return f"The instance {launch.name} could not be deleted; run `slurm-factory clean`."
