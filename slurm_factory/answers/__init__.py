"""What commands print on stdout at their end: for people, or as one JSON document."""

from slurm_factory.answers.builds import (
    print_builds,
    print_outcome,
    print_plan,
    print_prefetched,
    print_versions,
)
from slurm_factory.answers.machine import print_checks, print_cleaned, print_removals, print_setup
from slurm_factory.output.stdout import (
    READER_GONE,
    ReaderGoneError,
    print_error,
    print_version,
)

__all__ = [
    "READER_GONE",
    "ReaderGoneError",
    "print_builds",
    "print_checks",
    "print_cleaned",
    "print_error",
    "print_outcome",
    "print_plan",
    "print_prefetched",
    "print_removals",
    "print_setup",
    "print_version",
    "print_versions",
]
