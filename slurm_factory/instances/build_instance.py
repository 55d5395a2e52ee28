"""The instance of one build: launched, configured, and deleted afterwards."""

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
"""Failures for which the instance has no evidence: with an LXDError it is gone or does not run,
and on a full disk it would take up space."""


@contextmanager
def lxd_instance(launch: Launch, settings: Settings, reporter: Reporter) -> Iterator[Instance]:
    """An instance copied from the cached base, deleted afterwards.

    After a failure with evidence in it, the instance is kept, and the error shows how to enter it;
    otherwise it is deleted unless `launch.keep` is set.

    Args:
        launch: What to launch.
        settings: Settings of this site.
        reporter: Shows progress, and a warning if the instance cannot be deleted.

    Raises:
        LXDError: Cannot get an instance.
        ConfigurationError: Instances cannot use a proxy of the environment.
        OSError: Cannot write to the directory of images.
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
            # The work is finished anyway.
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
            f"Cannot mount {settings.cache_dir} in the instance.",
            details=" ".join((error.details or error.brief).split()),
            resolution="Run `slurm-factory setup`, which writes the required id map.",
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
    """The message for the user about a kept instance; empty if there is none."""
    project = settings.project_name
    try:
        status = instance_status(launch.name, project)
        if status is not None:
            _mark_kept(launch.name, project)
    except LXDError:
        return (
            f"The instance {launch.name} may still exist; run `slurm-factory clean` when LXD runs."
        )
    if status is None:
        return ""
    if status != RUNNING:
        return f"The instance is kept: lxc --project {project} start {LOCAL}{launch.name}"
    return f"The instance is kept: {enter_command(launch.name, project)}"


def _mark_kept(name: str, project: str) -> None:
    """Otherwise the next build would treat it as the instance of a killed build."""
    lxc("config", "set", f"{LOCAL}{name}", f"{KEPT_KEY}=yes", project=project)


def _break_off(launch: Launch, settings: Settings) -> str:
    """End everything in the instance; only deleting or restarting it does so reliably.

    Returns:
        The message for the user about a remaining instance; empty if there is none.
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
