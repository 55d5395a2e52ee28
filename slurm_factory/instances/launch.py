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
    maps_root_to_user,
    on_member,
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
from slurm_factory.instances.orphans import remove_orphans
from slurm_factory.plan.base_setup import BaseSetup, write_record
from slurm_factory.util.locks import locked
from slurm_factory.util.process import ATTEMPTS, TRANSIENT
from slurm_factory.util.signals import signals_held

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.instances.instance import Mount
    from slurm_factory.job import Place
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.bases import Base


@dataclass(frozen=True)
class Launch:
    """What to launch, and whether to keep it.

    Attributes:
        setup: The definition of the base.
        machine: Architecture of the machine, as uname(1) names it.
        name: Name of the instance.
        lock: Lock file (host), locked while the build runs.
        keep: Always keep the instance.
        spack_files: To make a base for Spack; see `base.needs_base`.
        offline: The instance gets no network; for an existing base.
        mounts: The directories of this machine that the instance sees.
        place: The machine of another LXD; None: this one.
    """

    setup: BaseSetup
    machine: str
    name: str
    lock: Path
    keep: bool = False
    spack_files: SpackFiles | None = None
    offline: bool = False
    mounts: tuple[Mount, ...] = ()
    place: Place | None = None

    @property
    def base(self) -> Base:
        """The distribution."""
        return self.setup.base


def launch_copy(
    launch: Launch, settings: Settings, reporter: Reporter
) -> tuple[lxd.LXDInstance, Mapping[str, Any]]:
    """Copy the base of a launch; make it first if needed.

    Only one build at a time makes or copies a base, so that no build deletes a base that another
    one copies. A copy takes seconds, on slow storage pools up to half a minute. Other bases of the
    same distribution are independent.

    Args:
        launch: What to launch.
        settings: Settings of this site.
        reporter: Shows progress, and waiting for another build.

    Returns:
        The running copy, and the record of what it contains.

    Raises:
        LXDError: Cannot make a copy; a part of it may remain.
        ConfigurationError: Instances cannot use a proxy of the environment.
        OSError: Cannot write to the directory of images.
    """
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        retry=retry_if_exception_type((BaseCompatibilityError, TransientError)),
        before_sleep=lambda state: _start_over(launch, settings, reporter, state),
        reraise=True,
    )
    lock = base_lock(launch.setup, settings.images_dir, launch.place)
    with locked(lock, "the base instance", reporter):
        try:
            with _stdin_devnull():
                return retrying(_launch_once, launch, settings, reporter)
        except (BaseCompatibilityError, TransientError) as error:
            raise unusable(error) from error


@contextmanager
def _stdin_devnull() -> Iterator[None]:
    """Make the null device the standard input for a while.

    Some commands of craft-providers inherit it: lxc would put a terminal into raw mode; Ctrl-C
    would then go to the instance and only make a file seem missing.
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
    """Remove the remains of a failed attempt.

    craft-providers marks a base whose setup failed as finished, and copies it again and again; the
    only sign is that every copy is incompatible. One such error may be chance: under load it treats
    a command that did not start as a missing file.
    """
    error, project = state.outcome.exception() if state.outcome else None, settings.project_name
    reporter.line(f"Launching again: {error}")
    delete_instance(launch.name, project)
    if isinstance(error, BaseCompatibilityError) and state.attempt_number > 1:
        entries = list_instances(project)
        for base in present_bases(launch.setup, launch.machine, project, entries, launch.place):
            delete_instance(base.name, project)


def _launch_once(
    launch: Launch, settings: Settings, reporter: Reporter
) -> tuple[lxd.LXDInstance, Mapping[str, Any]]:
    # Queried once for each attempt: every lxc takes 50 ms, and more under load.
    project, entries = settings.project_name, list_instances(settings.project_name)
    remove_orphans(entries, settings, reporter)
    bases = usable_bases(launch.setup, launch.machine, project, entries, launch.place)
    if bases:
        # Needs no network, and its image may have been deleted long ago.
        image = bases[0].image
    else:
        ensure_project(settings, reporter)
        image = ensure_image(launch.base, launch.machine, settings, reporter)
    network = find_network(launch.setup, launch.machine, image, settings)
    if launch.offline:
        network = replace(network, reach="")
    base = FactoryBase(
        launch.setup,
        project,
        network,
        spack_files=launch.spack_files,
        place=launch.place,
        reporter=reporter,
    )
    name = base_instance_name(launch.setup, image, project, launch.place)
    was_there = any(entry["name"] == name for entry in entries)
    with (
        _no_unfinished_base(name, project, base, was_there=was_there),
        provider_errors(),
        on_member(launch.place) as lxc,
    ):
        executor = lxd.launch(
            launch.name,
            base_configuration=base,
            image_name=image.alias,
            image_remote=image.remote,
            use_base_instance=True,
            auto_clean=True,
            project=project,
            map_user_uid=maps_root_to_user(launch.place),
            uid=os.getuid(),
            gid=_primary_group(),
            lxc=lxc,
        )
        # Read from the copy each time: another user, or another cache directory, may have made the
        # base.
        record = read_record(launch.setup, executor)
        made = created(bases[0].entry) if bases and not base.begun else None
        member = launch.place.member if launch.place else ""
        write_record(record, launch.setup, settings.images_dir, made, member)
        return executor, record


@contextmanager
def _no_unfinished_base(
    name: str, project: str, base: FactoryBase, *, was_there: bool
) -> Iterator[None]:
    """Delete an unfinished or damaged base instance if this launch fails. craft-providers would
    copy it again and again, and mark an unfinished one as finished.
    """
    try:
        yield
    except BaseException:
        if base.begun or base.damaged or not was_there:
            with signals_held():
                delete_unfinished(name, project)
        raise


def _primary_group() -> int:
    """The user's own group, also under sg(1), which new members of `lxd` use."""
    try:
        return pwd.getpwuid(os.getuid()).pw_gid
    except KeyError:
        return os.getgid()


IMAGE_GONE = "Image not found"
"""craft-providers has deleted an old base, and its image does not exist any more."""
CLIENT_ERRORS = (
    requests.RequestException,
    pylxd.exceptions.ClientConnectionFailed,
    pylxd.exceptions.LXDAPIException,
    pylxd.exceptions.LXDAPIExtensionNotAvailable,
)
"""Errors of pylxd, which craft-providers uses beside the lxc command."""


class TransientError(ProviderError):
    """lxc could not start a command; another try may succeed."""


@contextmanager
def provider_errors() -> Iterator[None]:
    """Convert errors of craft-providers and its commands in the block into our own.

    Raises:
        BaseCompatibilityError: Unchanged; the caller decides what to do about it.
        TransientError: Another try may succeed.
        LXDError: Another try would fail too.
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
    """The error if craft-providers could not launch an instance."""
    return LXDError(
        f"Cannot launch an instance: {error.brief.strip()}",
        details=_last_words(error.details or ""),
        resolution=error.resolution or "Run `slurm-factory doctor`.",
    )


def unreachable(error: Exception) -> LXDError:
    """The error for a daemon that does not answer, or not in time."""
    return LXDError(
        "Cannot connect to LXD.",
        details=" ".join(str(error).split()) or type(error).__name__,
        resolution="Run `slurm-factory doctor`.",
    )


def _last_words(details: str) -> str:
    """The last message of lxc, without the command lines that craft-providers adds."""
    written = re.findall(r"standard error output: b?['\"](.*)['\"]", details)
    lines = (written[-1].replace("\\n", "\n") if written else details).strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else ""


LOCK = "project.lock"
"""In the directory of images; one lock for all projects, because making a project takes only a
second."""


def ensure_project(settings: Settings, reporter: Reporter) -> None:
    """Make the LXD project with the default project's profile, unless it exists.

    craft-providers makes the project first and sets its profile later (lxd/project.py): in between,
    instances in it get neither disk nor network. The lock keeps other builds from using such a
    project; an unfinished project is completed, because craft-providers accepts an existing one
    (`project_create` in lxd/lxc.py).

    Args:
        settings: Settings of this site.
        reporter: Shows waiting.

    Raises:
        LXDError: LXD does not answer, or rejected the project.
        ProviderError: craft-providers could not start a command (`provider_errors`).
        OSError: Cannot write to the directory of images.
    """
    project = settings.project_name
    with locked(settings.images_dir / LOCK, f"the LXD project {project}", reporter):
        if not (project_exists(project) and _has_devices(project)):
            with provider_errors():
                create_with_default_profile(project=project, lxc=lxd.LXC())


def _has_devices(project: str) -> bool:
    """Whether the default profile of the project has devices."""
    profiles = lxc_json("profile", "list", LOCAL, project=project)
    return any(profile["name"] == "default" and profile["devices"] for profile in profiles)
