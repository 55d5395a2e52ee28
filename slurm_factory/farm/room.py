"""How many builds machines have room for. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from slurm_factory.farm.schedule import Room
from slurm_factory.instances.this_machine import BYTES_PER_JOB

CORES_PER_CELL: Final = 4
"""A build compiles with all CPUs for most of its time; configuring and packing use one."""
DISK_PER_CELL: Final = 2 << 30
"""What a build stages and keeps in the cache directory, with its compiler cache."""


@dataclass(frozen=True)
class Machine:
    """What builds may use together: CPUs, and bytes of memory."""

    cores: int
    memory: int


@dataclass(frozen=True)
class Division:
    """How machines are divided among builds.

    Attributes:
        whole: What there is in all.
        each: What a build takes.
        jobs: Parallel compilers of each.
    """

    whole: Room
    each: Room
    jobs: int


def divide(
    machines: Sequence[Machine], limit: Room, count: int, cells: int | None, jobs: int | None
) -> Division:
    """Divide machines of one architecture among builds.

    Each gets one job more than its share of the CPUs: while one configures or packs on one CPU,
    others use the rest. Of machines that differ, all get as much as the smallest one can take:
    builds are spread evenly over them.

    Args:
        machines: The machines.
        limit: What all builds together may use; its disk is that of the cache directory.
        count: Number of builds.
        cells: How many to run at once, if somebody says so.
        jobs: Parallel compilers of each, if somebody says so.
    """
    cores = min(*(machine.cores for machine in machines), limit.cores)
    memory = min(machine.memory for machine in machines)
    by_cores = len(machines) * max(2, int(cores) // CORES_PER_CELL)
    by_limit = max(2, int(limit.cores) // CORES_PER_CELL)
    at_once = max(1, min(count, cells or min(by_cores, by_limit)))
    together = math.ceil(at_once / len(machines))
    share = min(cores / together, limit.cores / at_once)
    each_jobs = jobs or max(1, min(int(cores), math.ceil(share) + (at_once > 1)))
    return Division(
        Room(
            at_once,
            min(len(machines) * cores, limit.cores),
            min(len(machines) * memory, limit.memory),
            limit.disk,
        ),
        Room(1, share, each_jobs * BYTES_PER_JOB, DISK_PER_CELL),
        each_jobs,
    )
