"""Where the builds of a matrix run: on this machine, or on the members of a remote."""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slurm_factory.exceptions import LXDError
from slurm_factory.farm.room import Division, Machine, divide
from slurm_factory.farm.schedule import Room
from slurm_factory.instances.members import choose_architecture, resources_of, targeted
from slurm_factory.instances.remote import open_now, variables_outside
from slurm_factory.instances.this_machine import size_in_bytes
from slurm_factory.util.machine import available_memory

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter

UNLIMITED: Final = 1 << 62


@dataclass(frozen=True)
class Engine:
    """Where the builds of a matrix run.

    Attributes:
        machines: Of each architecture, as uname(1) names it.
        limit: What all builds together may use; its disk is that of the cache directory.
        variables: Environment of a build.
        remote: Name of the remote; empty: this machine.
        words: Options of `build` that lead there.
    """

    machines: Mapping[str, Sequence[Machine]]
    limit: Room
    variables: Mapping[str, str]
    remote: str = ""
    words: tuple[str, ...] = ()

    def architecture(self, asked: str) -> str:
        """Architecture of the machine that compiles a package, as `choose_architecture`."""
        return choose_architecture({name: len(each) for name, each in self.machines.items()}, asked)

    def divide(
        self, architectures: Iterable[str], cells: int | None, jobs: int | None
    ) -> tuple[dict[str, Division], Room]:
        """Divide the machines of each architecture among its builds.

        Args:
            architectures: Of the machine that each build needs.
            cells: How many builds to run at once in all, if somebody says so.
            jobs: Parallel compilers of each, if somebody says so.

        Returns:
            The divisions, and what all builds together may use.
        """
        count = Counter(architectures)
        divisions = {
            name: divide(machines, self.limit, count[name], cells, jobs)
            for name, machines in self.machines.items()
        }
        every = Room(tasks=0)
        for name in count or divisions:
            every = every.plus(divisions[name].whole)
        return divisions, Room(
            min(every.tasks, cells or every.tasks),
            min(every.cores, self.limit.cores),
            min(every.memory, self.limit.memory),
            self.limit.disk,
        )


def find_engine(settings: Settings, reporter: Reporter) -> Engine:
    """Where builds run: on the open remote, or else on this machine.

    Args:
        settings: Settings of this site.
        reporter: Gets a warning of each member that does not answer.

    Raises:
        ConfigurationError: The remote has no such target.
        LXDError: No member answers.
    """
    memory, disk = settings.matrix_memory, settings.matrix_disk
    free = free_disk(settings)
    limit = Room(
        UNLIMITED,
        settings.matrix_cores or UNLIMITED,
        size_in_bytes(memory) if memory else UNLIMITED,
        min(free, size_in_bytes(disk)) if disk else free,
    )
    remote = open_now()
    if remote is None:
        machine = Machine(
            settings.matrix_cores or len(os.sched_getaffinity(0)),
            size_in_bytes(memory) if memory else available_memory(),
        )
        return Engine({platform.machine(): [machine]}, limit, dict(os.environ))
    machines: dict[str, list[Machine]] = {}
    failure: LXDError | None = None
    for member in targeted(remote, settings.target or ""):
        try:
            found = resources_of(remote, member)
        except LXDError as error:
            failure = error
            reporter.warning(f"The member {member.name} does not answer: {error.details}")
            continue
        machine = Machine(found.cpus, found.memory - found.used)
        machines.setdefault(member.architecture, []).append(machine)
    if not machines and failure:
        raise failure
    words = [f"--remote={remote.name}"]
    words += [f"--target={settings.target}"] * bool(settings.target)
    return Engine(machines, limit, variables_outside(), remote.name, tuple(words))


def free_disk(settings: Settings) -> int:
    """Free bytes for the cache directory, which may not be there yet."""
    there = settings.cache_dir
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free
