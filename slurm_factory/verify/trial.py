"""All checks of a package on one machine: at one place, and again where it was moved to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from slurm_factory.package.verification import Check, Trial
from slurm_factory.package.verification import Place as PlaceRecord
from slurm_factory.verify.cluster import Cluster, Place, check_kinds, logs_of, places
from slurm_factory.verify.static import run_check

if TYPE_CHECKING:
    from slurm_factory.instances.machine import Machine
    from slurm_factory.plan.bases import Distro
    from slurm_factory.verify.static import Opened

MODULES = (
    ("lmod", True),
    ("lmod", False),
    ("tcl", True),
    ("tcl", False),
)
"""Module systems, and whether the module files lie beside the tree."""


def try_package(
    opened: Opened,
    machine: Machine,
    distro: Distro,
    on_check: Callable[[str, Check], None],
    on_logs: Callable[[str, str], None],
) -> Trial:
    """Run a cluster from a package at two places, and make all checks at each.

    Args:
        opened: The package.
        machine: A clean machine.
        distro: Its distribution.
        on_check: Called with the prefix and each check that has ended.
        on_logs: Called with a name and the logs of the daemons, if a check has failed.

    Returns:
        What was found. A check that fails ends nothing else, unless no cluster starts.

    Raises:
        LXDError: The instance was stopped or deleted.
        ScriptError: The machine cannot be used.
    """
    began = time.monotonic()
    glibc, _, kernel = machine.run("about.sh").strip().partition(" ")
    cluster = Cluster(machine, opened)
    records: list[PlaceRecord] = []
    before: Place | None = None
    for number, place in enumerate(places(), start=1):
        checks: list[Check] = []
        for check in _at(cluster, place, before):
            checks.append(check)
            on_check(f"{distro.name} {place.tree}", check)
        if any(check.result == "failed" for check in checks):
            on_logs(f"{distro.slug}-daemons-{number}", logs_of(cluster))
        records.append(PlaceRecord(prefix=str(place.tree), checks=tuple(checks)))
        if "failed" in {checks[0].result, checks[-1].result}:  # Whether it started and ended.
            break
        before = place
    return Trial(
        distro=distro.name,
        title=distro.title,
        glibc=glibc,
        kernel=kernel,
        at=datetime.now(UTC),
        seconds=round(time.monotonic() - began, 1),
        places=tuple(records),
    )


def _at(cluster: Cluster, place: Place, before: Place | None) -> Iterator[Check]:
    """The checks at one place; the first is whether a cluster starts, the last whether it ends."""

    def start() -> str:
        if before is None:
            cluster.deliver(place)
        else:
            cluster.move(before, place)
        cluster.start(place)
        return "all daemons run, three nodes are idle"

    def stop() -> str:
        cluster.stop()
        return "no daemon is left"

    yield (started := run_check("start", start))
    if started.result != "failed":
        yield from _of_running(cluster, place)
    yield run_check("stop", stop)


def _of_running(cluster: Cluster, place: Place) -> Iterator[Check]:
    for kind in check_kinds():
        yield run_check(kind.name, partial(cluster.check, kind, place))
    yield run_check("libraries", partial(cluster.check_libraries, place))
    for system, beside in MODULES:
        name = f"{system}-{'beside' if beside else 'told'}"
        yield run_check(name, partial(cluster.check_module, place, system, beside=beside))
    yield run_check("sackd", partial(cluster.check_sackd, place))
