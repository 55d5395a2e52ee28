"""How many builds a machine has room for. Pure."""

from __future__ import annotations

import math
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
    """What builds may use together: CPUs, and bytes of memory and of disk."""

    cores: int
    memory: int
    disk: int


@dataclass(frozen=True)
class Division:
    """How a machine is divided among builds.

    Attributes:
        whole: What there is in all.
        each: What a build takes.
        jobs: Parallel compilers of each.
    """

    whole: Room
    each: Room
    jobs: int


def divide(machine: Machine, count: int, cells: int | None, jobs: int | None) -> Division:
    """Divide a machine among builds.

    Each gets one job more than its share of the CPUs: while one configures or packs on one CPU,
    others use the rest.

    Args:
        machine: The machine.
        count: Number of builds.
        cells: How many to run at once, if somebody says so.
        jobs: Parallel compilers of each, if somebody says so.
    """
    at_once = max(1, min(count, cells or max(2, machine.cores // CORES_PER_CELL)))
    share = machine.cores / at_once
    each_jobs = jobs or max(1, min(machine.cores, math.ceil(share) + (at_once > 1)))
    each = Room(1, share, each_jobs * BYTES_PER_JOB, DISK_PER_CELL)
    whole = Room(at_once, machine.cores, machine.memory, machine.disk)
    return Division(whole, each, each_jobs)
