"""Enums and fixed names; no functions."""

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

APPLICATION: Final = "slurm-factory"
JSON_VERSION: Final = 1
"""Version of every document written by `--json` and of the manifest."""

SYSCONFDIR: Final = PurePosixPath("/etc/slurm")

# Paths inside an instance.
INSTANCE_CACHE: Final = PurePosixPath("/opt/slurm-factory-cache")
INSTANCE_PREFIX: Final = PurePosixPath("/opt/slurm/software")
INSTANCE_SYSROOTS: Final = PurePosixPath("/usr/lib/slurm-factory/glibc")
"""Directory of the sysroot of an older C library, by its release. Below /usr/lib, because Spack
gives everything a run path to other directories of a compiler with a C library
(compilers/libraries.py)."""
INSTANCE_BUILD: Final = PurePosixPath("/srv/build")
EVERY_BUILDS_PATHS: Final = (INSTANCE_CACHE, INSTANCE_BUILD, INSTANCE_PREFIX, INSTANCE_SYSROOTS)
"""Paths of sources and scratch directories, and of configure's arguments, for any recipe."""
INSTANCE_SPACK: Final = PurePosixPath("/opt/spack")
INSTANCE_SPACK_PACKAGES: Final = PurePosixPath("/opt/spack-packages")
INSTANCE_SPACK_PYTHON: Final = PurePosixPath("/opt/spack-python/bin/python3")
INSTANCE_EXTERNALS: Final = PurePosixPath("/opt/spack-externals/packages.yaml")
INSTANCE_PROJECT: Final = PurePosixPath("/root/spack-project")
INSTANCE_STORE: Final = PurePosixPath("/opt/slurm-factory/store")
INSTANCE_BUILDCACHES: Final = PurePosixPath("/opt/slurm-factory/buildcaches")
INSTANCE_PACKAGES: Final = PurePosixPath("/srv/build/spack-packages")
"""Build cache with the packages that Spack has built in the instance."""
INSTANCE_VIEW: Final = PurePosixPath("/opt/slurm-factory/view")

SPACK_NAMESPACE: Final = "slurm_factory"
"""Of our own Spack repository."""

LXD_GROUP: Final = "lxd"
"""The group whose members may use the LXD daemon."""
BUILD_PREFIX: Final = "build-"
"""Prefix of the names of build instances; the build id follows."""
DOCTOR_PREFIX: Final = "doctor-"
"""Prefix of the names of doctor's instances."""


class BuildType(StrEnum):
    """How much a package contains."""

    MINIMAL = "minimal"
    STANDARD = "standard"
    GPU = "gpu"


class Deps(StrEnum):
    """The recipe: the source of the libraries that Slurm needs."""

    SPACK = "spack"
    SYSTEM = "system"


ROLES: Final = ("controller", "dbd", "compute", "rest", "login")
"""What a machine of a cluster can be, as deploy.sh has it."""

DEFAULT_BASE: Final = "ubuntu@24.04"
DEFAULT_DEPS: Final = Deps.SPACK
SAME: Final = "same"
"""In place of a base: the release that this machine runs."""
BASE_GLIBC: Final = "base"
"""In place of a release of glibc: the base's own."""
LATEST: Final = "latest"
"""In place of a version: the newest release of the catalog."""
