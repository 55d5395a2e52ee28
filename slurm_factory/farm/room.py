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
    machines: Sequence[Machine], disk: int, count: int, cells: int | None, jobs: int | None
) -> Division:
    """Divide machines of one kind among builds.

    Each gets one job more than its share of the CPUs: while one configures or packs on one CPU,
    others use the rest.

    Args:
        machines: The machines; builds go to the one that has the fewest.
        disk: Bytes for the files of all builds, which are in one cache directory.
        count: Number of builds.
        cells: How many to run at once, if somebody says so.
        jobs: Parallel compilers of each, if somebody says so.
    """
    by_cores = sum(max(2, machine.cores // CORES_PER_CELL) for machine in machines)
    at_once = max(1, min(count, cells or by_cores))
    together = math.ceil(at_once / len(machines))
    smallest = min(machine.cores for machine in machines)
    share = smallest / together
    each_jobs = jobs or max(1, min(smallest, math.ceil(share) + (together > 1)))
    return Division(
        Room(
            at_once,
            sum(machine.cores for machine in machines),
            sum(machine.memory for machine in machines),
            disk,
        ),
        Room(1, share, each_jobs * BYTES_PER_JOB, DISK_PER_CELL),
        each_jobs,
    )
