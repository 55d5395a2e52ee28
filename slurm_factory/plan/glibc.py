"""The C library that a package needs at most."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING

from packaging.version import Version

from slurm_factory import resources
from slurm_factory.constants import BASE_GLIBC, INSTANCE_SYSROOTS, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.util.hints import printable, quoted

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from slurm_factory.plan.bases import Base

SCRIPT = "setup-sysroot.sh"
FILES = {
    "START": "start.S",
    "NONSHARED": "nonshared.c",
    "INIT": "init.c",
    "SPEEDS": "termios-baud.h",
    "ALIASES": "aliases.txt",
}
"""The files that it needs, by parameter."""
ZIG = "zig"
"""Source of the headers and export lists of all releases of glibc."""
OLDEST_GLIBC = "2.28"
"""That of RHEL 8."""
RELEASE = re.compile(r"2\.[0-9]{2}", re.ASCII)


def default_floor(deps: Deps) -> str:
    """Release of glibc to compile for by default; empty: that of the base.

    The libraries of a distribution need its own.
    """
    return OLDEST_GLIBC if deps is Deps.SPACK else ""


def choose_floor(asked: str, deps: Deps, base: Base) -> str:
    """Release of glibc to compile for.

    Args:
        asked: What the user has asked for: a release, `BASE_GLIBC`, or empty for the default.
        deps: The recipe.
        base: The distribution to build on.

    Returns:
        A release older than that of the base; empty: that of the base.

    Raises:
        ConfigurationError: The recipe cannot build for that release.
    """
    if asked in {BASE_GLIBC, base.glibc}:
        return ""
    floor = asked or default_floor(deps)
    if not floor:
        return ""
    if deps is Deps.SYSTEM:
        raise ConfigurationError(
            f"--deps system cannot build for glibc {printable(asked)}.",
            details=f"The libraries of {base.name} need its own glibc, {base.glibc}.",
            resolution="Use --deps spack, which builds the libraries, or a base with that glibc.",
        )
    known = RELEASE.fullmatch(floor) is not None
    if not known or not Version(OLDEST_GLIBC) <= Version(floor) < Version(base.glibc):
        raise ConfigurationError(
            f"--glibc: {quoted(asked)} cannot be built for.",
            details=f"On {base.name} it is a release from {OLDEST_GLIBC} to {base.glibc}.",
            resolution=f"Write --glibc {OLDEST_GLIBC}, for example, or {BASE_GLIBC}.",
        )
    return floor


def sysroot_of(floor: str) -> PurePosixPath | None:
    """Directory (instance) of the C library of a release of glibc; None if `floor` is empty.

    It changes with all that goes into the sysroot. Spack hashes it with each package, so that none
    which was compiled with an earlier one is taken from a cache.
    """
    return INSTANCE_SYSROOTS / f"{floor}-{_digest()}" if floor else None


@cache
def _digest() -> str:
    rows = resources.load_toml("sources.toml")["source"]
    content = [
        resources.script(SCRIPT),
        *map(resources.sysroot_file, FILES.values()),
        *(row["sha256"] for row in rows if row["name"].startswith(ZIG)),
    ]
    return hashlib.sha256("\0".join(content).encode()).hexdigest()[:8]
