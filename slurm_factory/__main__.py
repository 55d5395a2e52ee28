"""`python -m slurm_factory`, and the start of the program, before slow imports."""

import os
from typing import NoReturn

from slurm_factory.exceptions import InterruptedBuildError
from slurm_factory.util.signals import handle_endings


def run() -> None:
    """Entry point that handles an interrupt while the program is still loading."""
    handle_endings(_leave)
    from slurm_factory.main import run as run_command  # noqa: PLC0415  # slow to import

    run_command()


def _leave(*_: object) -> NoReturn:
    # There is nothing to clean up yet, and an exception could get lost: Python only reports those
    # that arise in callbacks of its import system.
    os._exit(InterruptedBuildError.exit_code)


if __name__ == "__main__":
    run()
