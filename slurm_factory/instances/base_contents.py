"""What a base instance contains, asked in it or in a copy of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from slurm_factory.constants import INSTANCE_EXTERNALS, INSTANCE_SPACK, INSTANCE_SPACK_PACKAGES
from slurm_factory.exceptions import LXDError
from slurm_factory.plan.base_setup import CHECKOUT_FILE, setup_digest

if TYPE_CHECKING:
    from slurm_factory.plan.base_setup import BaseSetup
    from slurm_factory.util.process import CommandRunner

CHECKOUTS = {"spack": INSTANCE_SPACK, "spack-packages": INSTANCE_SPACK_PACKAGES}


def read_record(setup: BaseSetup, executor: CommandRunner) -> dict[str, Any]:
    """What only a base can tell: the versions of all packages in it, and what Spack found there.

    Args:
        setup: What the base was made of.
        executor: Runs commands in it.

    Returns:
        A record as `base_record.load_record` describes it.

    Raises:
        LXDError: It is not such a base.
    """
    command = [
        "dpkg-query",
        "-W",
        "-f",
        "${db:Status-Status} ${Package}:${Architecture} ${Version}\n",
    ]
    rows = (line.split(" ", 2) for line in _output(command, executor).splitlines())
    # dpkg also lists what was removed and left its configuration behind.
    packages = {name: version for status, name, version in rows if status == "installed"}
    record = {"base": setup.base.name, "setup": setup_digest(setup), "packages": packages}
    return record if setup.spack is None else record | _spack_record(executor)


def _spack_record(executor: CommandRunner) -> dict[str, Any]:
    text = _output(["cat", str(INSTANCE_EXTERNALS)], executor)
    try:
        externals = yaml.safe_load(text)
    # The last two for what YAML's reader does not check: dates, and how deep it is nested.
    except (yaml.YAMLError, ValueError, RecursionError):
        externals = None
    if not isinstance(externals, dict):
        raise LXDError(
            "The base instance is not complete.",
            details=f"{INSTANCE_EXTERNALS} in it names no externals.",
            resolution="Remove the base with `slurm-factory clean --full`, then build again.",
        )
    return {
        "externals": externals,
        "checkouts": {
            name: _output(["cat", str(directory / CHECKOUT_FILE)], executor).strip()
            for name, directory in CHECKOUTS.items()
        },
    }


def _output(command: list[str], executor: CommandRunner) -> str:
    done = executor.execute_run(command, capture_output=True, check=True, text=True, timeout=60)
    return str(done.stdout)
