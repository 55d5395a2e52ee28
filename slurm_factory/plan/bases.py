"""Releases of distributions: those to build on, and those to verify packages on."""

from __future__ import annotations

import platform
from functools import cache
from typing import Literal

from packaging.version import Version
from pydantic import BaseModel, ConfigDict

from slurm_factory.constants import SAME
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.resources import load_toml
from slurm_factory.util.hints import nearest, printable, quoted


class Image(BaseModel):
    """An image on one of LXD's remotes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    remote: str
    alias: str


class SecurityArchive(BaseModel):
    """The archive of security updates, if it is a separate one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: str
    suites: tuple[str, ...]


class Archive(BaseModel):
    """The archive of the distribution's packages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: str
    components: tuple[str, ...]
    suites: tuple[str, ...]
    keyring: str
    ports: str | None = None
    security: SecurityArchive | None = None


class Distro(BaseModel):
    """One release of a distribution, of which an image can be had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    distribution: Literal["debian", "ubuntu"]
    version: str
    codename: str
    glibc: str
    image: Image
    archive: Archive

    @property
    def slug(self) -> str:
        """The name in file and instance names, such as debian-12."""
        return self.name.replace("@", "-")

    @property
    def title(self) -> str:
        """The name for display, such as Debian 12, as in `resources/distributions.json`."""
        return f"{self.distribution.capitalize()} {self.version}"


class Base(Distro):
    """One release of a distribution to build on."""

    fortify: Literal[2, 3]
    python: str


@cache
def bases() -> tuple[Base, ...]:
    """All bases."""
    return tuple(Base.model_validate(entry) for entry in load_toml("bases.toml")["base"])


@cache
def distros() -> tuple[Distro, ...]:
    """All releases to verify packages on, by the age of their C library: bases and others."""
    others = (Distro.model_validate(entry) for entry in load_toml("bases.toml")["distro"])
    return tuple(sorted((*bases(), *others), key=lambda distro: Version(distro.glibc)))


def find_distro(name: str) -> Distro:
    """The release called `name`, such as debian@11.

    Raises:
        ConfigurationError: There is no such release.
    """
    names = [distro.name for distro in distros()]
    if name in names:
        return distros()[names.index(name)]
    near = nearest(name, names)
    raise ConfigurationError(
        f"Packages cannot be verified on {quoted(name)}.",
        details=f"Did you mean {near}?" if near else f"Known are {', '.join(names)}.",
        resolution=f"Choose one of them, such as --on {near or names[0]}.",
    )


def host_release() -> tuple[str, str]:
    """(ID, VERSION_ID) of this machine's distribution; see os-release(5)."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ("unknown", "unknown")
    return release.get("ID", "unknown"), release.get("VERSION_ID", "unknown")


def find_base(name: str, host: tuple[str, str]) -> Base:
    """The base called `name`; `same` means the release that this machine runs.

    Args:
        name: `ubuntu@24.04`, …, or `same`.
        host: The result of `host_release`.

    Raises:
        ConfigurationError: There is no such base.
    """
    wanted = "@".join(host) if name == SAME else name
    names = [base.name for base in bases()]
    if wanted in names:
        return bases()[names.index(wanted)]
    near = _nearest(wanted)
    raise ConfigurationError(
        f"There is no base {quoted(wanted)}."
        if name != SAME
        else f"This machine runs {printable(wanted)}, which is not a base: --base same cannot be"
        " used.",
        details=f"Did you mean {near}?" if near else f"Bases are {', '.join(names)}, same.",
        resolution=f"Choose one of them, such as --base {near or names[0]}.",
    )


def _nearest(wanted: str) -> str | None:
    """By the name of the release, else by the nearest number, else by spelling."""
    distribution, _, version = wanted.partition("@")
    candidates = [base for base in bases() if base.distribution == distribution]
    named = [base for base in bases() if version and base.codename.startswith(version)]
    try:
        asked = float(version)
        named += sorted(candidates, key=lambda base: abs(float(base.version) - asked))
    except ValueError:
        pass
    return named[0].name if named else nearest(wanted, [*(base.name for base in bases()), SAME])
