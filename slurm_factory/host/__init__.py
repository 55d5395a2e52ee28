"""This machine: `setup` brings it to where it can build, `doctor` tells what stops it."""

from slurm_factory.host.checks import Check, Status
from slurm_factory.host.plan import SetupStep
from slurm_factory.host.probe import why_lxd_cannot_run
from slurm_factory.host.run_doctor import doctor
from slurm_factory.host.run_setup import SetupResult, setup, setup_destructive

__all__ = [
    "Check",
    "SetupResult",
    "SetupStep",
    "Status",
    "doctor",
    "setup",
    "setup_destructive",
    "why_lxd_cannot_run",
]
