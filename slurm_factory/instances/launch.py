"""Launching a copy of a base instance through craft-providers, in our LXD project."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pylxd.exceptions
import requests
from craft_providers import ProviderError, lxd
from craft_providers.errors import BaseCompatibilityError
from craft_providers.lxd.project import create_with_default_profile
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from slurm_factory.exceptions import LXDError
from slurm_factory.instances.base import (
    FactoryBase,
    SpackFiles,
    base_instance_name,
    base_lock,
    present_bases,
    usable_bases,
)
from slurm_factory.instances.base_contents import read_record
from slurm_factory.instances.images import ensure_image
from slurm_factory.instances.lxc import (
    LOCAL,
    created,
    delete_instance,
    delete_unfinished,
    list_instances,
    lxc_json,
    project_exists,
)
from slurm_factory.instances.network import find_network
from slurm_factory.instances.orphans import stop_orphans
from slurm_factory.plan.base_setup import BaseSetup, write_record
from slurm_factory.util.locks import locked
from slurm_factory.util.process import ATTEMPTS, TRANSIENT
from slurm_factory.util.signals import signals_held

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.bases import Base


@dataclass(frozen=True)
class Launch:
    """What to launch, and what to do with it in the end.

    Attributes:
        setup: What the base is made of.
        architecture: As uname(1) names it.
        name: Of the instance.
        lock: File (host) that stays locked while the build runs.
        keep: Keep the instance whatever happens.
        spack_files: To make a base for Spack; see `base_instances.needs_base`.
        offline: The instance need not reach the network; for a base that is there.
    """

    setup: BaseSetup
    architecture: str
    name: str
    lock: Path
    keep: bool = False
    spack_files: SpackFiles | None = None
    offline: bool = False

    @property
    def base(self) -> Base:
        """The distribution."""
        return self.setup.base


def launch_copy(
    launch: Launch, settings: Settings, reporter: Reporter
) -> tuple[lxd.LXDInstance, Mapping[str, Any]]:
    """Copy the base of a launch, making it first where needed.

    One build at a time makes or copies a base, so that none loses it to another that makes it
    anew. A copy takes seconds, on slow storage pools up to half a minute. What is done to other
    bases of the same distribution is not waited for.

    Args:
        launch: What to launch.
        settings: Of this site.
        reporter: Is told what happens, and when this waits for another build.

    Returns:
        The running copy, and the record of what it contains.

    Raises:
        LXDError: No copy could be had; a part of it may be left.
        ConfigurationError: A proxy of the environment cannot be one for instances.
        OSError: The directory of images cannot be written.
    """
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        retry=retry_if_exception_type((BaseCompatibilityError, TransientError)),
        before_sleep=lambda state: _start_over(launch, settings, reporter, state),
        reraise=True,
    )
    lock = base_lock(launch.setup, settings.images_dir)
    with locked(lock, "the base instance", reporter):
        try:
            with _stdin_devnull():
                return retrying(_launch_once, launch, settings, reporter)
        except (BaseCompatibilityError, TransientError) as error:
            raise unusable(error) from error


@contextmanager
def _stdin_devnull() -> Iterator[None]:
    """Standard input is the null device for a while.

    Some commands of craft-providers inherit it: lxc would put a terminal into raw mode, in which
    Ctrl-C goes to the instance, and there only makes a file seem missing.
    """
    if sys.stdin is None:
        yield
        return
    saved = os.dup(0)
    try:
        with Path(os.devnull).open("rb") as null:
            os.dup2(null.fileno(), 0)
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def _start_over(
    launch: Launch, settings: Settings, reporter: Reporter, state: RetryCallState
) -> None:
    """Remove what a failed attempt left.

    craft-providers marks a base whose setup failed as finished, and copies it for ever; it says so
    only by finding every copy incompatible. Once may be chance: under load it takes a command that
    could not be started for a missing file.
    """
    error, project = state.outcome.exception() if state.outcome else None, settings.project_name
    reporter.line(f"Launching again: {error}")
    delete_instance(launch.name, project)
    if isinstance(error, BaseCompatibilityError) and state.attempt_number > 1:
        entries = list_instances(project)
        for base in present_bases(launch.setup, launch.architecture, project, entries):
            delete_instance(base.name, project)


def _launch_once(
    launch: Launch, settings: Settings, reporter: Reporter
) -> tuple[lxd.LXDInstance, Mapping[str, Any]]:
    # Asked anew by each attempt, and by nothing below: every lxc takes 50 ms, and more under load.
    project, entries = settings.project_name, list_instances(settings.project_name)
    stop_orphans(entries, settings, reporter)
    bases = usable_bases(launch.setup, launch.architecture, project, entries)
    if bases:
        # Needs no network to be asked for, and its image may have gone long ago.
        image = bases[0].image
    else:
        ensure_project(settings, reporter)
        image = ensure_image(launch.base, launch.architecture, settings, reporter)
    network = find_network(launch.base, image, settings)
    if launch.offline:
        network = replace(network, reach="")
    base = FactoryBase(
        launch.setup,
        project,
        network,
        spack_files=launch.spack_files,
        reporter=reporter,
    )
    name = base_instance_name(launch.setup, image, project)
    was_there = any(entry["name"] == name for entry in entries)
    with _no_unfinished_base(name, project, base, was_there=was_there), provider_errors():
        executor = lxd.launch(
            launch.name,
            base_configuration=base,
            image_name=image.alias,
            image_remote=image.remote,
            use_base_instance=True,
            auto_clean=True,
            project=project,
            map_user_uid=True,
            uid=os.getuid(),
            gid=_primary_group(),
        )
        # Of the copy, each time: another user, or another cache directory, may have made the base.
        record = read_record(launch.setup, executor)
        made = created(bases[0].entry) if bases and not base.begun else None
        write_record(record, launch.setup, settings.images_dir, made)
        return executor, record


@contextmanager
def _no_unfinished_base(
    name: str, project: str, base: FactoryBase, *, was_there: bool
) -> Iterator[None]:
    """Delete a base instance that this launch has begun to make when it ends in an error.

    craft-providers would mark it as finished and copy it for ever.
    """
    try:
        yield
    except BaseException:
        if base.begun or not was_there:
            with signals_held():
                delete_unfinished(name, project)
        raise


def _primary_group() -> int:
    """The user's own group, also under sg(1), which is how a new member of `lxd` gets through."""
    try:
        return pwd.getpwuid(os.getuid()).pw_gid
    except KeyError:
        return os.getgid()


IMAGE_GONE = "Image not found"
"""craft-providers has deleted a base that was too old, and its image is not there any more."""
CLIENT_ERRORS = (
    requests.RequestException,
    pylxd.exceptions.ClientConnectionFailed,
    pylxd.exceptions.LXDAPIException,
    pylxd.exceptions.LXDAPIExtensionNotAvailable,
)
"""What pylxd raises, through which craft-providers talks to LXD beside the lxc command."""


class TransientError(ProviderError):
    """lxc could not start a command, which it can the next time."""


@contextmanager
def provider_errors() -> Iterator[None]:
    """Turn what craft-providers and what it runs raise in the block into errors of ours.

    Raises:
        BaseCompatibilityError: As it was; what to do about it depends on whose base it is.
        TransientError: Another attempt may succeed.
        LXDError: No attempt will.
    """
    try:
        yield
    except BaseCompatibilityError:
        raise
    except ProviderError as error:
        if TRANSIENT in str(error) or IMAGE_GONE in str(error):
            raise TransientError(error.brief, details=error.details) from error
        raise unusable(error) from error
    except subprocess.SubprocessError as error:
        raise TransientError("A command in the instance failed.", details=str(error)) from error
    except CLIENT_ERRORS as error:
        raise unreachable(error) from error


def unusable(error: ProviderError) -> LXDError:
    """The error for an instance that craft-providers could not launch."""
    return LXDError(
        f"No instance could be launched: {error.brief.strip()}",
        details=_last_words(error.details or ""),
        resolution=error.resolution or "Run `slurm-factory doctor`.",
    )


def unreachable(error: Exception) -> LXDError:
    """The error for a daemon that does not answer, or not in time."""
    return LXDError(
        "LXD could not be talked to.",
        details=" ".join(str(error).split()) or type(error).__name__,
        resolution="Run `slurm-factory doctor`.",
    )


def _last_words(details: str) -> str:
    """What lxc wrote last, out of the command lines that craft-providers puts around it."""
    written = re.findall(r"standard error output: b?['\"](.*)['\"]", details)
    lines = (written[-1].replace("\\n", "\n") if written else details).strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else ""


LOCK = "project.lock"
"""In the directory of images; one for all projects, since making one takes a second."""


def ensure_project(settings: Settings, reporter: Reporter) -> None:
    """Make the LXD project with the profile of LXD's default one, unless it is there.

    craft-providers makes the project first and gives it its profile then (lxd/project.py): whoever
    sees it in between has a project whose instances get neither disk nor network. So nobody looks
    while another build may be making it, and one whose making was broken off is completed, since
    craft-providers bears with a project that is there (`project_create` in lxd/lxc.py).

    Args:
        settings: Of this site.
        reporter: Is told when this waits.

    Raises:
        LXDError: LXD cannot be asked, or turned the project down.
        ProviderError: craft-providers could not start a command (`provider_errors`).
        OSError: The directory of images cannot be written.
    """
    project = settings.project_name
    with locked(settings.images_dir / LOCK, f"the LXD project {project}", reporter):
        if not (project_exists(project) and _has_devices(project)):
            with provider_errors():
                create_with_default_profile(project=project, lxc=lxd.LXC())


def _has_devices(project: str) -> bool:
    """Whether the default profile of the project gives instances anything."""
    profiles = lxc_json("profile", "list", LOCAL, project=project)
    return any(profile["name"] == "default" and profile["devices"] for profile in profiles)
