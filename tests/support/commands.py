"""Commands of tests, run to their end."""

import subprocess
from collections.abc import Mapping, Sequence

from slurm_factory.util.process import ATTEMPTS, TRANSIENT

LIMIT_SECONDS = 3000
"""After which something hangs: far more than anything takes on the busiest machine."""
LXC_FAILED = 255
"""Exit status of lxc for its own errors; the program under test never ends with it."""


def run_to_end(
    command: Sequence[str], variables: Mapping[str, str] | None = None, *, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command; again if it is an lxc that did not come to start its own.

    Args:
        command: The program and its arguments.
        variables: Its environment, or that of the tests.
        given: Its standard input.
    """
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            command,
            env=variables,
            input=given,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        if done.returncode != LXC_FAILED or TRANSIENT not in done.stderr:
            break
    return done
