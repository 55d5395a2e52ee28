"""Architectures, by the names that uname(1), Debian and GNU give them."""

from __future__ import annotations

from dataclasses import dataclass

from slurm_factory.constants import Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.util.hints import nearest, quoted


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        name: As uname(1) names it.
        debian: As Debian and Ubuntu name it.
        triplet: As GNU's compilers name it, and the directories of its libraries
            (wiki.debian.org/Multiarch/Tuples).
    """

    name: str
    debian: str
    triplet: str


ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture("x86_64", "amd64", "x86_64-linux-gnu"),
        Architecture("aarch64", "arm64", "aarch64-linux-gnu"),
    )
}
"""Those that packages are built for on machines of another one."""


def debian_name(architecture: str) -> str:
    """The name of an architecture in Debian and Ubuntu; `architecture` as uname(1) names it."""
    known = ARCHITECTURES.get(architecture)
    return known.debian if known else architecture


def choose_architecture(asked: str, machine: str, deps: Deps) -> str:
    """The architecture to build for.

    Args:
        asked: What the user has asked for; empty: that of this machine.
        machine: Architecture of this machine, as uname(1) names it.
        deps: The recipe.

    Raises:
        ConfigurationError: This machine does not build for it.
    """
    if asked in {"", machine}:
        return machine
    if asked not in ARCHITECTURES:
        by_debian = {each.debian: name for name, each in ARCHITECTURES.items()}
        near = by_debian.get(asked) or nearest(asked, list(ARCHITECTURES))
        raise ConfigurationError(
            f"--arch: {quoted(asked)} cannot be built for.",
            details=f"Did you mean {near}?" if near else f"There are {', '.join(ARCHITECTURES)}.",
            resolution=f"Write --arch {near or machine}, for example.",
        )
    if deps is Deps.SPACK:
        raise ConfigurationError(
            f"--deps spack does not build for {asked} on {machine}.",
            details="Spack compiles for the architecture of the machine only.",
            resolution=f"Run it on a machine of {asked}, or use --deps system.",
        )
    if machine not in ARCHITECTURES:
        raise ConfigurationError(
            f"--deps system does not build for {asked} on {machine}.",
            details=f"Only machines of {' and '.join(ARCHITECTURES)} cross-compile.",
            resolution=f"Run it on a machine of {asked}.",
        )
    return asked


def require_native(architecture: str, machine: str) -> None:
    """Refuse to compile for another architecture outside an instance.

    Raises:
        ConfigurationError: It is another one.
    """
    if architecture != machine:
        raise ConfigurationError(
            f"--destructive-mode does not build for {architecture} on {machine}.",
            details="Libraries of both architectures would be installed on this machine.",
            resolution="Omit it to build in LXD.",
        )
