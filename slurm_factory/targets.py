"""CPUs that Spack compiles for, by their names in archspec (archspec.readthedocs.io)."""

from __future__ import annotations

from archspec.cpu import TARGETS, host

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.hints import did_you_mean, quoted


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
    usable = [name for name in names if _is_runnable(name)] or names
    levels = ", ".join(sorted(name for name in usable if TARGETS[name].vendor == "generic"))
    raise ConfigurationError(
        f"There is no CPU target {quoted(target)} of {architecture}.",
        details=did_you_mean(target, usable, f"There are {levels}, and names of CPUs."),
        resolution="Correct SLURM_FACTORY_SPACK_TARGET, or unset it.",
    )


def require_runnable(target: str) -> None:
    """Refuse a target whose programs this machine's CPU cannot run: Spack finds no way to build it.

    Raises:
        ConfigurationError: It cannot; names the best level that it can.
    """
    here = host()
    if target not in TARGETS or _is_runnable(target):
        return
    raise ConfigurationError(
        f"This machine's CPU cannot run what is built for {target}.",
        details=f"It is of the kind {here.name}, and builds run some of what they have built.",
        resolution=f"Set SLURM_FACTORY_SPACK_TARGET={here.generic.name}, or build on a machine that"
        " has such a CPU.",
    )


def _is_runnable(target: str) -> bool:
    here = host()
    return TARGETS[target] in {here, *here.ancestors}
