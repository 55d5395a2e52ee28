"""Problems of this machine that would stop a build, and the commands that fix them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from slurm_factory.cache_dir import require_ours
from slurm_factory.config import Settings
from slurm_factory.exceptions import LXDError, OutputError
from slurm_factory.host.checks import (
    Check,
    Space,
    Status,
    cache_space_check,
    cache_writable_check,
    host_checks,
    instance_checks,
    memory_check,
    pool_space_check,
    skipped_instance_checks,
)
from slurm_factory.host.doctor_instance import (
    find_image,
    further_certificates,
    last_line,
    look_from_inside,
    try_instance,
)
from slurm_factory.host.facts import HostFacts
from slurm_factory.host.probe import probe
from slurm_factory.host.setup_steps import WITHOUT_LXD
from slurm_factory.util.machine import available_memory
from slurm_factory.util.process import Outcome, run


def doctor(settings: Settings) -> tuple[Check, ...]:
    """Check this machine for everything that stops builds; takes less than 15 s.

    If LXD works, starts a short-lived instance and always deletes it. It checks the network if the
    project has an image for it.

    Args:
        settings: For the project, the cache directory and the additional CA certificates.

    Raises:
        KeyboardInterrupt: After the instance has been deleted.
    """
    facts = probe()
    return (
        *host_checks(facts),
        cache_check(settings),
        *_space_checks(facts, settings.cache_dir),
        memory_check(available_memory()),
        *_inside_checks(facts, settings),
    )


def nearest_existing(path: Path) -> Path:
    """The path (host) itself or its nearest parent that is known to exist."""
    return next(place for place in (path, *path.parents) if _is_seen(place))


def _is_seen(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def pool_free(pool: str, answer: str) -> Space:
    """Free space of a storage pool.

    Args:
        pool: Its name.
        answer: JSON of `/1.0/storage-pools/POOL/resources`; empty if there is none.
    """
    space = (json.loads(answer) if answer.strip() else {}).get("space") or {}
    total = int(space.get("total", 0))
    return Space(pool, total - int(space.get("used", 0)) if total else None)


def cache_check(settings: Settings) -> Check:
    """Whether builds can use the cache directory, or make it."""
    cache, place = settings.cache_dir, nearest_existing(settings.cache_dir)
    try:
        if place == cache:
            require_ours(settings)
    except OutputError as error:
        return cache_writable_check(cache, problem=error.details)
    writable = os.access(place, os.W_OK | os.X_OK)
    return cache_writable_check(cache, problem="" if writable else "Permission denied.")


def space_checks_here(cache_dir: Path) -> tuple[Check, ...]:
    """Room in the cache directory (host)."""
    place = nearest_existing(cache_dir)
    return (cache_space_check(Space(str(cache_dir), shutil.disk_usage(place).free)),)


def _space_checks(facts: HostFacts, cache_dir: Path) -> tuple[Check, ...]:
    checks = [*space_checks_here(cache_dir)]
    pool = facts.lxd.root_pool if facts.lxd else None
    if pool and facts.permitted:
        answer = run(["lxc", "query", f"local:/1.0/storage-pools/{pool}/resources"])
        checks.append(pool_space_check(pool_free(pool, answer.output if answer.ok else "")))
    return tuple(checks)


def instance_start_check(outcome: Outcome) -> Check:
    """An instance starts and runs commands.

    Args:
        outcome: Outcome of the attempt; the last line that it printed is the cause of a failure.
    """
    if outcome.ok:
        return Check("instance-start", Status.OK, "an instance starts and runs commands")
    cause = last_line(f"{outcome.output}\n{outcome.errors}").removeprefix("Error: ")
    return Check("instance-start", Status.FAILED, f"no instance starts: {cause}", WITHOUT_LXD)


def _inside_checks(facts: HostFacts, settings: Settings) -> tuple[Check, ...]:
    lxd = facts.lxd
    if not (lxd and lxd.root_pool and lxd.nic and facts.permitted):
        return skipped_instance_checks("needs a working LXD")
    image = find_image(settings.project_name)
    if image is None:
        return (
            instance_start_check(try_instance(facts.account)),
            *skipped_instance_checks("not checked yet: the first build makes the image"),
        )
    certificates = further_certificates(settings.ca_certificates)
    try:
        seen = look_from_inside(settings.project_name, image, certificates, facts.proxies)
    except LXDError as error:
        failed = Check(
            "instance-start", Status.FAILED, f"{error.brief} {error.details}", error.resolution
        )
        return (failed, *skipped_instance_checks("no instance"))
    return (instance_start_check(Outcome(0, "", "")), *instance_checks(facts, seen))
