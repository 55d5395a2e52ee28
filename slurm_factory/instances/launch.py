"""Launching build instances through craft-providers, and surviving its faults."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import filelock
import pylxd.exceptions
import requests
from craft_providers import ProviderError, lxd
from craft_providers.errors import BaseCompatibilityError
from craft_providers.executor import get_instance_name
from craft_providers.lxd.project import create_with_default_profile
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from slurm_factory.base_record import BASE_LIFE, BaseSetup, write_record
from slurm_factory.constants import INSTANCE_BUILD, INSTANCE_CACHE, Deps
from slurm_factory.exceptions import (
    ConfigurationError,
    InterruptedBuildError,
    LXDError,
    SlurmFactoryError,
)
from slurm_factory.instances import ATTEMPTS, TRANSIENT, Instance
from slurm_factory.instances.base import (
    FactoryBase,
    SpackFiles,
    Surroundings,
    compatibility_tag,
    read_record,
)
from slurm_factory.instances.host import HostExecutor
from slurm_factory.instances.images import (
    ImageName,
    candidates,
    ensure_image,
    mirror_of,
    sources_list,
)
from slurm_factory.instances.lxc import (
    LOCAL,
    LOCK_KEY,
    creation_time,
    delete_instance,
    instance_names,
    lxc,
    project_exists,
    wait_for_operations,
)
from slurm_factory.interrupts import signals_held
from slurm_factory.proxies import proxies

if TYPE_CHECKING:
    from slurm_factory.bases import Base
    from slurm_factory.config import Settings

IMAGE_GONE = "Image not found"
"""craft-providers has deleted a base that was too old, and its image is not there any more."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLIENT_ERRORS = (
    requests.RequestException,
    pylxd.exceptions.ClientConnectionFailed,
    pylxd.exceptions.LXDAPIException,
    pylxd.exceptions.LXDAPIExtensionNotAvailable,
)
"""What pylxd raises, through which craft-providers talks to LXD beside the lxc command."""
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/root"}


class _TransientError(ProviderError):
    """lxc could not start a command, which it can the next time."""


@dataclass(frozen=True)
class Launch:
    """What to launch, and what to do with it in the end.

    Attributes:
        setup: What the base is made of.
        architecture: As uname(1) names it.
        name: Of the instance.
        lock: File (host) that stays locked while the build runs.
        keep: Keep the instance whatever happens.
        spack_files: To make a base for Spack; see `needs_base`.
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


def both_spellings(environ: Mapping[str, str]) -> dict[str, str]:
    """Proxy variables of `environ`, in both spellings, since programs differ in what they read."""
    given = proxies(environ)
    return given | {name.upper(): value for name, value in given.items()}


@contextmanager
def lxd_instance(
    launch: Launch,
    settings: Settings,
    on_line: Callable[[str], None],
    warn: Callable[[str], None] | None = None,
) -> Iterator[Instance]:
    """An instance copied from the cached base, gone afterwards.

    After a failure it is kept, and the error tells how to enter it; after an interruption and
    after success it is deleted unless `launch.keep` says otherwise.

    Args:
        launch: What to launch.
        settings: Of this site.
        on_line: Takes each line about what happens.
        warn: Takes the warning that after success the instance could not be deleted; None: on_line
            does.

    Raises:
        LXDError: No instance could be had.
    """
    try:
        instance = _equip(launch, settings, *_launch(launch, settings, on_line))
    except BaseException:
        with signals_held():
            _delete_quietly(launch.name, settings.project_name)
        raise
    try:
        yield instance
    except SlurmFactoryError as error:
        error.resolution = f"{error.resolution} {_kept(instance)}".strip()
        raise
    except KeyboardInterrupt as error:
        left = _break_off(instance, launch, settings)
        if left:
            raise InterruptedBuildError("Interrupted.", resolution=left) from error
        raise
    except BaseException:
        _break_off(instance, launch, settings)
        raise
    if not launch.keep:
        try:
            with signals_held():
                delete_instance(launch.name, settings.project_name)
        except LXDError as error:
            # The work is done all the same.
            (warn or on_line)(f"{_left(launch)} {error.brief}")


@contextmanager
def this_machine(base: Base, settings: Settings, work: Path) -> Iterator[Instance]:
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
        cache=PurePosixPath(settings.cache_dir),
        build_dir=PurePosixPath(build_dir),
        record=read_record(BaseSetup(base, Deps.SYSTEM), executor),
    )


def needs_base(setup: BaseSetup, architecture: str, settings: Settings) -> bool:
    """Whether a launch would have to make the base instance first: there is none, or it is too old.

    Args:
        setup: What it is made of.
        architecture: As uname(1) names it.
        settings: Of this site.

    Raises:
        LXDError: LXD cannot be asked.
    """
    project = settings.project_name
    names = [name for name, _ in _present_bases(setup, architecture, project)[:1]]
    made = creation_time(names[0], project) if names else None
    return made is None or datetime.now(UTC) - made > BASE_LIFE


def base_instance_name(setup: BaseSetup, image: ImageName, project: str) -> str:
    """Name under which craft-providers keeps the base instance (lxd/launcher.py)."""
    name = f"base-instance-{compatibility_tag(setup, project)}-{image.remote}-{image.alias}"
    return get_instance_name(name, lxd.LXDError)


def _launch(
    launch: Launch, settings: Settings, on_line: Callable[[str], None]
) -> tuple[lxd.LXDInstance, Mapping[str, Any]]:
    """Copy the base, making it first where needed; one process at a time makes a base."""
    settings.images_dir.mkdir(parents=True, exist_ok=True)
    with _locked(settings.images_dir / f"{launch.base.slug}.lock", on_line):
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            retry=retry_if_exception_type((BaseCompatibilityError, _TransientError)),
            before_sleep=lambda state: _start_over(launch, settings, on_line, state),
            reraise=True,
        )
        try:
            _ensure_project(settings.project_name)
            with _terminal_out_of_reach():
                return retrying(_launch_once, launch, settings, on_line)
        except (BaseCompatibilityError, _TransientError) as error:
            raise _unusable(error) from error


@contextmanager
def _locked(path: Path, on_line: Callable[[str], None]) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        on_line("Waiting for the base instance, which another build may be making")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _terminal_out_of_reach() -> Iterator[None]:
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
    launch: Launch, settings: Settings, on_line: Callable[[str], None], state: RetryCallState
) -> None:
    """Remove what a failed attempt left.

    craft-providers marks a base whose setup failed as finished, and copies it for ever; it says so
    only by finding every copy incompatible. Once may be chance: under load it takes a command that
    could not be started for a missing file.
    """
    error, project = state.outcome.exception() if state.outcome else None, settings.project_name
    on_line(f"Launching again: {error}")
    delete_instance(launch.name, project)
    if isinstance(error, BaseCompatibilityError) and state.attempt_number > 1:
        for name, _ in _present_bases(launch.setup, launch.architecture, project):
            delete_instance(name, project)


def _launch_once(
    launch: Launch, settings: Settings, on_line: Callable[[str], None]
) -> tuple[lxd.LXDInstance, Mapping[str, Any]]:
    # Anew for each attempt: the image may have gone long ago, with only its base left.
    image = _choose_image(launch, settings, on_line)
    surroundings = _surroundings(launch.base, image, settings)
    if launch.offline:
        surroundings = replace(surroundings, reach="")
    base = FactoryBase(
        launch.setup,
        settings.project_name,
        surroundings,
        spack_files=launch.spack_files,
        on_line=on_line,
    )
    with _no_unfinished_base(launch, image, settings, base), _provider_errors():
        executor = lxd.launch(
            launch.name,
            base_configuration=base,
            image_name=image.alias,
            image_remote=image.remote,
            use_base_instance=True,
            auto_clean=True,
            project=settings.project_name,
            map_user_uid=True,
            uid=os.getuid(),
            gid=_primary_group(),
        )
        # Of the copy, each time: another user, or another cache directory, may have made the base.
        record = read_record(launch.setup, executor)
        made = creation_time(
            base_instance_name(launch.setup, image, settings.project_name), settings.project_name
        )
        write_record(record, launch.setup, settings.images_dir, made)
        return executor, record


@contextmanager
def _no_unfinished_base(
    launch: Launch, image: ImageName, settings: Settings, base: FactoryBase
) -> Iterator[None]:
    """Delete a base instance that this launch has begun to make when it ends in an error.

    craft-providers would mark it as finished and copy it for ever.
    """
    project = settings.project_name
    name = base_instance_name(launch.setup, image, project)
    was_there = name in instance_names(project)
    try:
        yield
    except BaseException:
        if base.begun or not was_there:
            with signals_held():
                _delete_quietly(name, project)
        raise


@contextmanager
def _provider_errors() -> Iterator[None]:
    """Errors of craft-providers and of what it runs, as errors that a user can read."""
    try:
        yield
    except BaseCompatibilityError:
        raise
    except ProviderError as error:
        if TRANSIENT in str(error) or IMAGE_GONE in str(error):
            raise _TransientError(error.brief, details=error.details) from error
        raise _unusable(error) from error
    except subprocess.SubprocessError as error:
        raise _TransientError("A command in the instance failed.", details=str(error)) from error
    except CLIENT_ERRORS as error:
        raise _unreachable(error) from error


def _unusable(error: ProviderError) -> LXDError:
    return LXDError(
        f"No instance could be launched: {error.brief.strip()}",
        details=_last_words(error.details or ""),
        resolution=error.resolution or "Run `slurm-factory doctor`.",
    )


def _unreachable(error: Exception) -> LXDError:
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


def _choose_image(launch: Launch, settings: Settings, on_line: Callable[[str], None]) -> ImageName:
    """The image of a base instance that is there already needs no network to be asked for."""
    present = _present_bases(launch.setup, launch.architecture, settings.project_name)
    if present:
        return present[0][1]
    return ensure_image(launch.base, launch.architecture, settings, on_line)


def _present_bases(
    setup: BaseSetup, architecture: str, project: str
) -> list[tuple[str, ImageName]]:
    """Names of the base instances that are there, with the images they are from."""
    present = instance_names(project)
    images = candidates(setup.base, architecture)
    named = [(base_instance_name(setup, image, project), image) for image in images]
    return [(name, image) for name, image in named if name in present]


def _ensure_project(project: str) -> None:
    if not project_exists(project):
        with _provider_errors():
            create_with_default_profile(project=project, lxc=lxd.LXC())


def _surroundings(base: Base, image: ImageName, settings: Settings) -> Surroundings:
    given = both_spellings(os.environ)
    proxy = given.get("http_proxy") or given.get("https_proxy")
    _refuse_loopback(proxy)
    certificates = (
        tuple(sorted(settings.ca_certificates.rglob("*.crt")))
        if settings.ca_certificates.is_dir()
        else ()
    )
    set_mirrors = {"debian": settings.debian_mirror, "ubuntu": settings.ubuntu_mirror}
    own_sources = image.remote == "local" or set_mirrors[base.distribution]
    return Surroundings(
        proxies=given,
        certificates=certificates,
        sources_list=sources_list(base, settings) if own_sources else "",
        reach=urlsplit(proxy or mirror_of(base, settings)).hostname or "deb.debian.org",
    )


def _refuse_loopback(proxy: str | None) -> None:
    host = urlsplit(proxy or "").hostname
    if host and (host == "localhost" or host.startswith("127.") or host == "::1"):
        raise ConfigurationError(
            f"The proxy {host} cannot be reached from an instance.",
            details="http_proxy or https_proxy names this machine's loopback address.",
            resolution="Set it to an address of this machine that instances can reach.",
        )


def _equip(
    launch: Launch, settings: Settings, executor: lxd.LXDInstance, record: Mapping[str, Any]
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
        raise _unreachable(error) from error
    executor.default_command_environment.update(ENVIRONMENT)
    return Instance(
        name=launch.name,
        executor=executor,
        cache_on_host=settings.cache_dir,
        cache=INSTANCE_CACHE,
        build_dir=INSTANCE_BUILD,
        record=record,
        project=settings.project_name,
    )


def _primary_group() -> int:
    """The user's own group, also under sg(1), which is how a new member of `lxd` gets through."""
    try:
        return pwd.getpwuid(os.getuid()).pw_gid
    except KeyError:
        return os.getgid()


def _kept(instance: Instance) -> str:
    return f"The instance is kept: {instance.enter_command}"


def _break_off(instance: Instance, launch: Launch, settings: Settings) -> str:
    """End everything in the instance, which only its deletion or restart surely does.

    Returns:
        What the user has to know about an instance that is left; empty where none is.
    """
    with signals_held():
        if launch.keep:
            with suppress(LXDError):
                lxc("restart", "--force", f"{LOCAL}{launch.name}", project=settings.project_name)
            return _kept(instance)
        if _delete_quietly(launch.name, settings.project_name):
            return ""
        return _left(launch)


def _left(launch: Launch) -> str:
    return f"The instance {launch.name} could not be deleted; run `slurm-factory clean`."


def _delete_quietly(name: str, project: str) -> bool:
    """Delete an instance; the error that led here matters more than one while cleaning up."""
    with suppress(LXDError):
        wait_for_operations(name, project)
    try:
        delete_instance(name, project)
    except LXDError:
        return False
    return True
