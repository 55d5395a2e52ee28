"""CPUs that Spack compiles for, by their names in archspec (archspec.readthedocs.io)."""

from __future__ import annotations

import difflib

from archspec.cpu import TARGETS, host

from slurm_factory.exceptions import ConfigurationError


def require_target(target: str, architecture: str) -> None:
    """Refuse a target that no machine of this architecture is.

    Args:
        target: As the setting has it.
        architecture: Of this machine, as uname(1) names it.

    Raises:
        ConfigurationError: archspec does not know it, or it is of another architecture.
    """
    names = [name for name, cpu in TARGETS.items() if cpu.family.name == architecture]
    if target in names:
        return
    near = difflib.get_close_matches(target, names, n=1)
    levels = ", ".join(sorted(name for name in names if TARGETS[name].vendor == "generic"))
    raise ConfigurationError(
        f"There is no CPU target {target!r} of {architecture}.",
        details=f"Did you mean {near[0]}?" if near else f"There are {levels}, and names of CPUs.",
        resolution="Correct SLURM_FACTORY_SPACK_TARGET, or unset it.",
    )


def require_runnable(target: str) -> None:
    """Refuse a target whose programs this machine's CPU cannot run: Spack finds no way to build it.

    Raises:
        ConfigurationError: It cannot; names the best level that it can.
    """
    cpu, here = TARGETS.get(target), host()
    if cpu is None or cpu in {here, *here.ancestors}:
        return
    raise ConfigurationError(
        f"This machine's CPU cannot run what is built for {target}.",
        details=f"It is of the kind {here.name}, and builds run some of what they have built.",
        resolution=f"Set SLURM_FACTORY_SPACK_TARGET={here.generic.name}, or build on a machine that"
        " has such a CPU.",
    )
