"""`python -m slurm_factory`, and how the program begins before what takes long to import."""

import os
from typing import NoReturn

from slurm_factory.exceptions import InterruptedBuildError
from slurm_factory.util.signals import handle_endings


def run() -> None:
    """Entry point that bears an interrupt while the program is still being loaded."""
    handle_endings(_leave)
    from slurm_factory.main import run as run_command  # noqa: PLC0415  # slow to import

    run_command()


def _leave(*_: object) -> NoReturn:
    # Nothing has begun that would have to be tidied up, and an exception could get lost: Python
    # only reports those that arise in callbacks of its import system.
    os._exit(InterruptedBuildError.exit_code)


if __name__ == "__main__":
    run()
