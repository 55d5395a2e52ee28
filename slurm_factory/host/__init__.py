"""LXD on this machine: `setup` brings it to where it can build, `doctor` tells what stops it."""

from slurm_factory.host.doctor import Check, Status, doctor
from slurm_factory.host.plan import SetupStep
from slurm_factory.host.possible import why_lxd_cannot_run
from slurm_factory.host.setup import SetupResult, setup

__all__ = [
    "Check",
    "SetupResult",
    "SetupStep",
    "Status",
    "doctor",
    "setup",
    "why_lxd_cannot_run",
]
