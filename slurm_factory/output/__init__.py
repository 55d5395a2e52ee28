"""Progress on the screen, log files, groups on GitHub Actions; what stdout gets is in `stdout`."""

from slurm_factory.output.lines import as_called, mask_credentials, shown
from slurm_factory.output.records import PackageProgress, duration
from slurm_factory.output.reporter import Reporter, make_reporter

__all__ = [
    "PackageProgress",
    "Reporter",
    "as_called",
    "duration",
    "make_reporter",
    "mask_credentials",
    "shown",
]
