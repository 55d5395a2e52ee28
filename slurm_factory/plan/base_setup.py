"""The definition of a base instance, and its record."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from slurm_factory import resources
from slurm_factory.plan.architectures import ARCHITECTURES, Architecture
from slurm_factory.plan.features import packages_for, programs_for
from slurm_factory.plan.glibc import sysroot_of
from slurm_factory.util.documents import read_json
from slurm_factory.util.files import atomic_write

if TYPE_CHECKING:
    from slurm_factory.constants import Deps
    from slurm_factory.plan.bases import Base

# Compilers and tools of every build; the feature table has the packages of features.
TOOLS = (
    *("binutils", "bison", "build-essential", "bzip2", "ca-certificates", "ccache", "flex"),
    *("patch", "perl", "pkg-config", "python3-minimal", "xz-utils"),
)
LIBRARIES = ("libssl-dev", "zlib1g-dev")
# No headers of libraries that Spack builds: a configure script would find them.
SPACK_TOOLS = (
    # Spack's externals; libtool's program is in libtool-bin.
    *("autoconf", "automake", "bison", "build-essential", "cmake", "diffutils", "findutils"),
    *("flex", "gawk", "gettext", "gfortran", "libtool-bin", "m4", "perl", "pkgconf", "tar"),
    # Programs that Spack runs: patchelf if a prefix gets longer.
    *("bzip2", "ca-certificates", "ccache", "file", "gzip", "patch", "patchelf"),
    *("python3", "python3-cffi-backend", "unzip", "xz-utils", "zstd"),
)
SETUP_SCRIPT = "setup-base.sh"
SPACK_SETUP_SCRIPT = "setup-spack.sh"
CROSS_SETUP_SCRIPT = "setup-cross.sh"
BASE_LIFE = timedelta(days=90)
"""The next launch replaces an older base instance (craft-providers' lxd/launcher.py)."""

INSTANCE_INDEX: Final = PurePosixPath("/opt/spack-misc")
"""Spack's index of its package recipes, made with the base: the initial content of `misc_cache`."""
CHECKOUT_FILE: Final = ".slurm-factory-checkout"
"""One line in the top directory of Spack and of spack-packages: their identity."""
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")


@dataclass(frozen=True)
class SpackRefs:
    """The versions of Spack and its package recipes.

    Attributes:
        url: URL of Spack: http(s), file, or an absolute directory (host).
        ref: Tag, branch or commit.
        packages_url: URL of spack-packages.
        packages_ref: Tag, branch or commit.
    """

    url: str
    ref: str
    packages_url: str
    packages_ref: str

    @property
    def redacted(self) -> SpackRefs:
        """The same without credentials in the URLs, for display and records."""
        return SpackRefs(
            without_credentials(self.url),
            self.ref,
            without_credentials(self.packages_url),
            self.packages_ref,
        )


@dataclass(frozen=True)
class BaseSetup:
    """The definition of a base instance; all builds with the same setup share one base.

    Attributes:
        base: The distribution.
        deps: The recipe it serves.
        architecture: Architecture to compile for, as uname(1) names it.
        spack: None for the recipe `system`.
        packages: Additional packages for externals in the user's Spack configuration.
        floor: Release of glibc to compile for; empty: that of the base.
        cross: Whether the machine is of another architecture.
    """

    base: Base
    deps: Deps
    architecture: str
    spack: SpackRefs | None = None
    packages: tuple[str, ...] = ()
    floor: str = ""
    cross: bool = False

    @property
    def foreign(self) -> Architecture | None:
        """The architecture to compile for, if it is not that of the machine."""
        return ARCHITECTURES[self.architecture] if self.cross else None


def without_credentials(url: str) -> str:
    """`url` without user name and password."""
    return _CREDENTIALS.sub("", url)


def base_packages(setup: BaseSetup) -> tuple[str, ...]:
    """Every package that a base with `setup` installs, and runs programs of."""
    if setup.spack is not None:
        return tuple(sorted({*SPACK_TOOLS, *setup.packages}))
    if setup.foreign:
        compilers = f"crossbuild-essential-{setup.foreign.debian}"
        return tuple(sorted({*TOOLS, compilers, *setup.packages}))
    programs = programs_for(setup.base, setup.architecture)
    return tuple(sorted({*TOOLS, *_libraries(setup), *programs, *setup.packages}))


def foreign_packages(setup: BaseSetup) -> tuple[str, ...]:
    """Libraries of the architecture that a base compiles for, if it is another one."""
    if not setup.foreign:
        return ()
    return tuple(f"{name}:{setup.foreign.debian}" for name in _libraries(setup))


def foreign_programs(setup: BaseSetup) -> tuple[str, ...]:
    """Packages with programs of that architecture, which the base itself cannot run."""
    if not setup.foreign:
        return ()
    programs = programs_for(setup.base, setup.architecture, cross=True)
    return tuple(f"{name}:{setup.foreign.debian}" for name in programs)


def _libraries(setup: BaseSetup) -> tuple[str, ...]:
    packages = packages_for(setup.base, setup.architecture, cross=setup.cross)
    return tuple(sorted({*LIBRARIES, *packages}))


def setup_digest(setup: BaseSetup) -> str:
    """Changes with everything that the setup installs; for `system`, without Spack."""
    content = [resources.script(SETUP_SCRIPT), *base_packages(setup)]
    if setup.spack is not None:
        content += [resources.script(SPACK_SETUP_SCRIPT), spack_digest(setup.spack)]
    if setup.floor:
        content.append(str(sysroot_of(setup.floor)))
    if setup.foreign:
        content.append(resources.script(CROSS_SETUP_SCRIPT))
        content += [*foreign_packages(setup), *foreign_programs(setup)]
    return _short_digest(content)


def spack_digest(refs: SpackRefs) -> str:
    """Changes with the versions of Spack and its package recipes, not with credentials."""
    redacted = refs.redacted
    return _short_digest([redacted.url, redacted.ref, redacted.packages_url, redacted.packages_ref])


def record_path(setup: BaseSetup, images_dir: Path, member: str = "") -> Path:
    """Path of the record of the current base (host), on this machine or on a member of a remote."""
    where = f".{member}" if member else ""
    return images_dir / f"{setup.base.slug}-{setup_digest(setup)}.json{where}"


def load_record(setup: BaseSetup, images_dir: Path) -> dict[str, Any] | None:
    """The record of the current base on this machine; None if it is missing or damaged.

    Args:
        setup: The definition of the base.
        images_dir: Directory of the records (host).

    Returns:
        `base`, `setup` and `packages` (name → version); for Spack also `externals`, the content
        of the packages.yaml that names its externals, and `checkouts` (name → identity).
    """
    return _load(record_path(setup, images_dir), setup)


def load_records(setup: BaseSetup, images_dir: Path) -> list[dict[str, Any]]:
    """The records of all current bases: that of this machine, and those of members of remotes.

    Members have bases of their own, which differ where the distribution has changed in between.
    """
    path = record_path(setup, images_dir)
    members = (each for each in images_dir.glob(f"{path.name}.*") if each.suffix != ".lock")
    found = [path, *sorted(members)]
    return [record for each in found if (record := _load(each, setup)) is not None]


def _load(path: Path, setup: BaseSetup) -> dict[str, Any] | None:
    try:
        record = None if _has_expired(path) else read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and _is_of(setup, record) else None


def write_record(
    record: dict[str, Any],
    setup: BaseSetup,
    images_dir: Path,
    made: datetime | None = None,
    member: str = "",
) -> None:
    """Save the record of the current base atomically.

    Args:
        record: The content of the base.
        setup: The definition of the base.
        images_dir: Directory of the records (host).
        made: Creation time of the base instance; None: now. The file gets this time, because the
            content is part of the build key.
        member: Of a remote that has the base; empty: this machine.
    """
    path = record_path(setup, images_dir, member)
    with atomic_write(path) as file:
        file.write(json.dumps(record, indent=1, sort_keys=True).encode())
        if made:
            file.flush()
            os.utime(file.fileno(), (made.timestamp(), made.timestamp()))


def _has_expired(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > BASE_LIFE.total_seconds()


def _is_of(setup: BaseSetup, record: dict[str, Any]) -> bool:
    complete = setup.spack is None or isinstance(record.get("externals"), dict)
    return complete and record.get("base") == setup.base.name


def _short_digest(content: list[str]) -> str:
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]


VERSION = re.compile(r"""^(?:__version__|spack_version) = ["']([^"'\s]+)["']""", re.MULTILINE)


def directory_of(url: str) -> Path | None:
    """The directory (host) of a path or a file:// URL; None for other URLs."""
    place = urlsplit(url)
    if place.scheme in {"http", "https"}:
        return None
    return Path(unquote(place.path)) if place.scheme == "file" else Path(url)


def is_repository(directory: Path) -> bool:
    """Whether a directory (host) is a repository's work tree, or a bare repository."""
    bare = (directory / "HEAD").is_file() and (directory / "objects").is_dir()
    return bare or (directory / ".git").exists()


def unpacked_at(url: str) -> Path | None:
    """The directory (host) with plain files at `url`; None if there is no readable one."""
    directory = directory_of(url)
    try:
        plain = directory and directory.is_dir() and not is_repository(directory)
    except OSError:
        return None
    return directory if plain else None


def spack_version(directory: Path) -> str:
    """The version of the Spack in a directory (host), such as 1.1.0; empty if unknown.

    Spack keeps it in one file (lib/spack/spack/__init__.py, 0.16 to 1.1).
    """
    try:
        text = (directory / "lib/spack/spack/__init__.py").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    found = VERSION.search(text)
    return found[1] if found else ""
