"""The way from older packages to a newer one, with a job that runs all the time.

The order is SchedMD's: slurmdbd, slurmctld, slurmd, commands (slurm.schedmd.com/upgrades.html).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.instances.machine import ScriptError
from slurm_factory.package.verification import Check, Upgrade
from slurm_factory.verify.cluster import Cluster, Place, logs_of
from slurm_factory.verify.static import ProblemError, run_check

if TYPE_CHECKING:
    from slurm_factory.instances.machine import Machine
    from slurm_factory.plan.bases import Distro
    from slurm_factory.verify.static import Opened

VERSIONS = PurePosixPath("/opt/slurm versions")
LOGIN = "mysql_native_password"
ORDER = ("slurmdbd", "slurmctld", "slurmd")


def try_upgrade(
    way: Sequence[Opened],
    machine: Machine,
    distro: Distro,
    on_check: Callable[[str, Check], None],
    on_logs: Callable[[str, str], None],
) -> Upgrade:
    """Start a cluster from the first package, and replace its daemons by those of each later one.

    The state of slurmctld, the database and the running job are kept.

    Args:
        way: The packages, the oldest first. All need accounting.
        machine: A clean machine.
        distro: Its distribution.
        on_check: Called with a name for the way and each check that has ended.
        on_logs: Called with a name and the logs of the daemons, if a check has failed.

    Raises:
        LXDError: The instance was stopped or deleted.
    """
    began = time.monotonic()
    checks: list[Check] = []
    releases = tuple(opened.tree.release for opened in way)
    for check in _hops(way, machine):
        checks.append(check)
        on_check(" to ".join(releases), check)
        if check.result == "failed":
            on_logs(f"{distro.slug}-upgrade", logs_of(Cluster(machine, way[0])))
            break
    return Upgrade(
        distro=distro.name,
        releases=releases,
        at=datetime.now(UTC),
        seconds=round(time.monotonic() - began, 1),
        checks=tuple(checks),
    )


def _hops(way: Sequence[Opened], machine: Machine) -> Iterator[Check]:
    clusters = [Cluster(machine, opened) for opened in way]
    places = [Place(VERSIONS / str(number) / "software", LOGIN) for number in range(len(way))]
    job = ""

    def script(name: str, *arguments: object, **variables: str) -> str:
        try:
            return machine.run(name, *arguments, **variables).strip().rpartition("\n")[2]
        except ScriptError as error:
            raise ProblemError(clusters[0].last_words(error)) from error

    def start() -> str:
        nonlocal job
        for cluster, place in zip(clusters, places, strict=True):
            cluster.deliver(place)
        clusters[0].start(places[0])
        job = script("upgrade-job.sh", places[0].tree)
        return f"job {job} runs"

    def replace(at: int, daemon: str) -> str:
        site = clusters[at].site()
        if not site.tree.accounting:
            raise ProblemError(f"the package of {site.tree.release} has no accounting")
        # Commands may not be newer than the daemon that they ask.
        commands = places[at - 1 if daemon == "slurmdbd" else at].tree
        return script("upgrade-daemon.sh", places[at].tree, daemon, job, commands, **site.files())

    yield run_check(f"start {way[0].tree.release}", start)
    for at, opened in enumerate(way[1:], start=1):
        for daemon in ORDER:
            yield run_check(f"{daemon} {opened.tree.release}", partial(replace, at, daemon))
    yield run_check("job", partial(script, "upgrade-end.sh", places[-1].tree, job))
