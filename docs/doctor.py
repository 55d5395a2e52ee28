"""The checks of `doctor`, each with what it may say, for docs/troubleshooting.md."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from host_samples import ALICE, EMPTY_LXD, READY, READY_LXD

from slurm_factory.host.checks import (
    ABOUT,
    GIB,
    Check,
    Space,
    Status,
    cache_space_check,
    cache_writable_check,
    host_checks,
    instance_checks,
    memory_check,
    pool_space_check,
)
from slurm_factory.host.doctor import instance_start_check
from slurm_factory.host.facts import Daemon, Firewall, Flavor, HostFacts
from slurm_factory.util.process import Outcome

SEEN = {
    "address": "10.201.7.98/24",
    "mirror": "http://deb.debian.org/debian",
    "host": "deb.debian.org",
    "dns": "ok",
    "archive": "ok",
    "tls": "ok",
}
"""What an instance with a working network sees."""


def machines() -> Iterator[HostFacts]:
    """A machine with each problem."""
    yield replace(READY, obstacle="this container lacks CAP_SYS_ADMIN")
    yield replace(READY, flavor=None, daemon=Daemon.STOPPED, permitted=False, lxd=None)
    yield replace(READY, flavor=None, incus=True)
    yield replace(READY, daemon=Daemon.STOPPED, lxd=None)
    yield replace(READY, daemon=Daemon.SILENT, lxd=None)
    yield replace(READY, daemon=Daemon.SILENT, lxd=None, flavor=Flavor.SNAP)
    yield replace(READY, permitted=False, account=replace(ALICE, in_group=False))
    yield replace(READY, permitted=False)
    yield replace(READY, lxd=EMPTY_LXD)
    yield replace(READY, lxd=replace(READY_LXD, root_pool=None))
    yield replace(READY, lxd=replace(READY_LXD, pools={"default": "dir"}))
    yield replace(READY, lxd=replace(READY_LXD, pools={"default": "dir"}, drivers=("dir",)))
    yield replace(READY, lxd=replace(READY_LXD, nat=False))
    yield replace(READY, ip_forward=False)
    for firewall in Firewall:
        yield replace(READY, firewall=firewall)
    yield replace(READY, subuid=(), subgid=())
    yield replace(READY, inotify_instances=128)


def networks() -> Iterator[Mapping[str, str]]:
    """What an instance sees of a network with each problem."""
    yield {}
    yield SEEN | {"dns": "failed"}
    yield SEEN | {"archive": "Connection timed out"}
    yield SEEN | {"mirror": "https://deb.example", "archive": "Certificate verification failed"}
    yield SEEN | {"tls": "untrusted"}


def bad_checks() -> Iterator[Check]:
    """Every check that warns or fails, in the order of `doctor`; some several times."""
    for facts in machines():
        yield from host_checks(facts)
    cache = Path("/home/alice/.slurm-factory")
    yield cache_writable_check(cache, problem="Permission denied.")
    for free in (1, 4):
        yield cache_space_check(Space(str(cache), free * GIB))
        yield pool_space_check(Space("default", free * GIB))
    yield memory_check(1 * GIB)
    yield instance_start_check(Outcome(1, "", "Error: Failed to run: forkstart"))
    for seen in networks():
        yield from instance_checks(READY, seen)


def sections() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Name, purpose and problems of each check; a problem is a message and what fixes it."""
    bad = [check for check in bad_checks() if check.status in {Status.FAILED, Status.WARNING}]
    for name, about in ABOUT.items():
        rows = [
            (
                f"{check.status}: {check.message}",
                f"`{check.fix_command}`" if check.fix_command else "",
            )
            for check in bad
            if check.name == name
        ]
        yield name, about, list(dict.fromkeys(rows))
