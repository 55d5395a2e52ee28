"""The content of a base instance, read in it or in a copy of it."""

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
    """Facts that only a base has: the versions of all its packages, and the externals that Spack
    found.

    Args:
        setup: The definition of the base.
        executor: Runs commands in it.

    Returns:
        A record as `base_setup.load_record` describes it.

    Raises:
        LXDError: It is not a complete base.
    """
    command = [
        "dpkg-query",
        "-W",
        "-f",
        "${db:Status-Status} ${Package}:${Architecture} ${Version}\n",
    ]
    rows = (line.split(" ", 2) for line in _output(command, executor).splitlines())
    # dpkg also lists removed packages with remaining configuration.
    packages = {name: version for status, name, version in rows if status == "installed"}
    record = {"base": setup.base.name, "setup": setup_digest(setup), "packages": packages}
    return record if setup.spack is None else record | _spack_record(executor)


def _spack_record(executor: CommandRunner) -> dict[str, Any]:
    text = _output(["cat", str(INSTANCE_EXTERNALS)], executor)
    try:
        externals = yaml.safe_load(text)
    # The last two for errors that the YAML reader does not check: dates, and deep nesting.
    except (yaml.YAMLError, ValueError, RecursionError):
        externals = None
    if not isinstance(externals, dict):
        raise LXDError(
            "The base instance is not complete.",
            details=f"{INSTANCE_EXTERNALS} in it lists no externals.",
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
