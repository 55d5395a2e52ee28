"""Clean instances of distributions, in which a package is tried.

Making one from an image takes a minute: packages are installed once, and copies take a second.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slurm_factory import resources
from slurm_factory.constants import BUILD_PREFIX
from slurm_factory.exceptions import LXDError
from slurm_factory.instances.build_instance import confine
from slurm_factory.instances.images import ensure_image, mirror_of
from slurm_factory.instances.launch import ensure_project
from slurm_factory.instances.lxc import (
    BASE_PREFIX,
    KEPT_KEY,
    LOCAL,
    LONG_SECONDS,
    STATUS,
    created,
    delete_instance,
    delete_unfinished,
    is_finished,
    list_instances,
    lxc,
)
from slurm_factory.instances.machine import Machine
from slurm_factory.instances.network import both_spellings
from slurm_factory.instances.orphans import remove_orphans
from slurm_factory.util.locks import locked
from slurm_factory.util.machine import certificates_in, proxy_host
from slurm_factory.util.signals import signals_held

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.bases import Distro
    from slurm_factory.workspace import Workspace

PREPARED_LIFE = timedelta(days=30)
"""A distribution gets new packages in that time."""
CA_DIRECTORY = PurePosixPath("/usr/local/share/ca-certificates")
SCRIPTS = ("boot.sh", "prepare.sh", "packages.txt", "install-module-systems.sh")
"""What a prepared instance is made from."""


class NoImageError(LXDError):
    """An image of a distribution cannot be had."""


@contextmanager
def clean_instance(
    distro: Distro,
    settings: Settings,
    reporter: Reporter,
    workspace: Workspace,
    *,
    keep: bool = False,
    offline: bool = True,
) -> Iterator[Machine]:
    """A running copy of the prepared instance of a distribution, deleted afterwards.

    A workspace has one at a time: one that was kept goes when the next one is made.

    Args:
        distro: The release of a distribution.
        settings: Settings of this site.
        reporter: Shows progress.
        workspace: Its lock shows that the instance is in use.
        keep: Keep the instance.
        offline: It has no network but its own.

    Raises:
        LXDError: LXD cannot make it.
        ScriptError: The packages of the distribution could not be installed.
    """
    project = settings.project_name
    name = f"{BUILD_PREFIX}{workspace.build_id}"
    ensure_project(settings, reporter)
    remove_orphans(list_instances(project), settings, reporter)
    lock = settings.images_dir / f"{_prefix(distro)}.lock"
    with _deleted_afterwards(name, project, keep=keep):
        if keep:
            delete_unfinished(name, project)
        with locked(lock, f"the instance of {distro.name}", reporter):
            prepared = _ensure_prepared(distro, settings, reporter)
            copy = ("copy", f"{LOCAL}{prepared}", f"{LOCAL}{name}")
            lxc(*copy, project=project, timeout=LONG_SECONDS)
        confine(name, settings, workspace.lock, offline=offline)
        lxc("start", f"{LOCAL}{name}", project=project, timeout=LONG_SECONDS)
        machine = Machine(name, project)
        machine.run("boot.sh")
        yield machine


@contextmanager
def _deleted_afterwards(name: str, project: str, *, keep: bool) -> Iterator[None]:
    try:
        yield
    finally:
        with signals_held():
            if keep:
                with suppress(LXDError):  # It may not have been made.
                    lxc("config", "set", f"{LOCAL}{name}", f"{KEPT_KEY}=yes", project=project)
            else:
                delete_unfinished(name, project)


def _prefix(distro: Distro) -> str:
    return f"{BASE_PREFIX}verify-{distro.slug.replace('.', '-')}-"


def _ensure_prepared(distro: Distro, settings: Settings, reporter: Reporter) -> str:
    """Name of a stopped instance that is ready to be copied."""
    prefix, project = _prefix(distro), settings.project_name
    # Projects share a network, on which each name is there once.
    texts = (project, *(resources.verify_file(name) for name in SCRIPTS))
    name = prefix + hashlib.sha256("\0".join(texts).encode()).hexdigest()[:10]
    entries = {entry["name"]: entry for entry in list_instances(project)}
    oldest = datetime.now(UTC) - PREPARED_LIFE
    if name in entries and is_finished(entries[name]) and created(entries[name]) >= oldest:
        return name
    for other in entries:
        if other.startswith(prefix):
            delete_instance(other, project)
    with reporter.step(f"Prepare {distro.title}"):
        _prepare(name, distro, settings, reporter)
    return name


def _prepare(name: str, distro: Distro, settings: Settings, reporter: Reporter) -> None:
    project, machine = settings.project_name, platform.machine()
    try:
        image = ensure_image(distro, machine, settings, reporter)
    except LXDError as error:
        raise NoImageError(
            error.brief, details=error.details, resolution=error.resolution
        ) from error
    source = f"{image.remote}:{image.alias}"
    try:
        lxc("launch", source, f"{LOCAL}{name}", project=project, timeout=LONG_SECONDS)
        prepare(Machine(name, project), distro, settings)
        lxc("stop", f"{LOCAL}{name}", project=project, timeout=LONG_SECONDS)
        lxc("config", "set", f"{LOCAL}{name}", f"{STATUS}=FINISHED", project=project)
    except BaseException:
        with signals_held():
            delete_unfinished(name, project)
        raise


def prepare(machine: Machine, distro: Distro, settings: Settings) -> None:
    """Install the packages and make the users of a site, on a fresh machine.

    Raises:
        ScriptError: It failed.
    """
    machine.run("boot.sh")
    # This machine itself has them.
    for certificate in certificates_in(settings.ca_certificates) if machine.name else ():
        machine.push(certificate, CA_DIRECTORY / certificate.name)
    reaching(machine, distro, settings).run(
        "prepare.sh",
        PACKAGES=" ".join(resources.verify_file("packages.txt").split()),
        MODULE_SYSTEMS=resources.verify_file("install-module-systems.sh"),
    )


def reaching(machine: Machine, distro: Distro, settings: Settings) -> Machine:
    """The machine for scripts that install packages: with the proxies, and a REACH to wait for."""
    through = both_spellings(os.environ)
    proxy = through.get("http_proxy") or through.get("https_proxy")
    mirror = urlsplit(mirror_of(distro, settings, platform.machine())).hostname
    reach = (proxy and proxy_host(proxy)) or mirror or "deb.debian.org"
    return replace(machine, secrets=through, variables={**machine.variables, "REACH": reach})
