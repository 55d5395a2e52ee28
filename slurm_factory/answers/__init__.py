"""What commands print on stdout at their end: for people, or as one JSON document."""

from slurm_factory.answers.builds import (
    print_builds,
    print_outcome,
    print_plan,
    print_prefetched,
    print_versions,
)
from slurm_factory.answers.machine import print_checks, print_cleaned, print_removals, print_setup

__all__ = [
    "print_builds",
    "print_checks",
    "print_cleaned",
    "print_outcome",
    "print_plan",
    "print_prefetched",
    "print_removals",
    "print_setup",
    "print_versions",
]
