"""Progress on the screen, log files, groups on GitHub Actions and the final summary."""

from slurm_factory.output.buildlog import BuildLog
from slurm_factory.output.displays import Mode, choose_mode
from slurm_factory.output.lines import as_called, mask_credentials
from slurm_factory.output.records import (
    FileRecord,
    Outcome,
    PackageProgress,
    PackageRecord,
    Results,
    StepRecord,
    duration,
)
from slurm_factory.output.reporter import Reporter, make_reporter
from slurm_factory.output.results import print_results, result_table

__all__ = [
    "BuildLog",
    "FileRecord",
    "Mode",
    "Outcome",
    "PackageProgress",
    "PackageRecord",
    "Reporter",
    "Results",
    "StepRecord",
    "as_called",
    "choose_mode",
    "duration",
    "make_reporter",
    "mask_credentials",
    "print_results",
    "result_table",
]
