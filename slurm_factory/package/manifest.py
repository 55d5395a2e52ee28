"""The manifest of a package: its records, writing and reading it."""

import shlex
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
)

from slurm_factory.constants import JSON_VERSION, BuildType, Deps
from slurm_factory.exceptions import OutputError
from slurm_factory.package.file_names import FileNames, file_names
from slurm_factory.package.tarball import Artifact
from slurm_factory.relocate.hardening import Figure, Group, Share
from slurm_factory.util.documents import parse_json, read_bytes
from slurm_factory.util.files import write_text

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~-]*$")]
"""Safe in a file name, a module name and a line of a script."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """Immutable; rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageIdentity(Record):
    """The identity of a package."""

    stem: Name
    """Common prefix of the artifact's file names."""
    version: Name
    """The requested version: a series or a release."""
    release: Name
    spack_version: Name
    """The release as Spack writes it, such as 25-05-8-1."""
    build_type: BuildType
    base: str
    """Such as debian@12."""
    deps: Deps
    arch: Name
    """As uname(1) names it."""
    cpu: str = ""
    """The CPU that it was compiled for, as archspec names it; empty in manifests of earlier
    versions."""
    epoch: int
    """Date of the Slurm release, in seconds since the epoch: the time of everything packed."""

    @property
    def series(self) -> str:
        """Series of the release, such as 25.05."""
        return ".".join(self.release.split(".")[:2])

    @property
    def kind(self) -> tuple[str, str]:
        """Series, and the name without the version: what packages have in common of which a newer
        one replaces an older one."""
        return self.series, self.stem.removeprefix(f"slurm-{self.version}")

    @property
    def module(self) -> str:
        """Name of the module. Environment Modules take what follows a + for a variant
        (module(1), "Advanced module version specifiers")."""
        return f"slurm/{self.version.replace('+', '-')}"

    @property
    def names(self) -> FileNames:
        """The names of all its files."""
        return file_names(self.stem)

    @property
    def software_tarball(self) -> str:
        """File name of the tarball that holds `software/`."""
        return self.names.software

    @property
    def module_tarball(self) -> str:
        """File name of the tarball that holds the module files."""
        return self.names.module

    @property
    def sbom(self) -> str:
        """File name of the SBOM."""
        return self.names.sbom

    @property
    def checksums(self) -> str:
        """File name of the checksums for sha256sum(1)."""
        return self.names.checksums

    @property
    def manifest(self) -> str:
        """File name of the manifest."""
        return self.names.manifest

    @property
    def verification(self) -> str:
        """File name of the record of its verification."""
        return self.names.verification


class Source(Record):
    """The source archive of Slurm."""

    url: str
    sha256: Sha256
    tag: Name
    commit: str = ""
    """Of a source from a repository that the user has named."""


class AppliedPatch(Record):
    """A patch to Slurm's source."""

    name: str
    origin: str
    """`slurm-factory`, a revision of Debian such as deb13u1, or `site`."""
    sha256: Sha256
    fixes: tuple[str, ...] = ()
    """The advisories that it fixes, alone or with others."""


class KnownAdvisory(Record):
    """An advisory that a package has."""

    id: str
    summary: str
    fixed_in: str = ""
    """The first release of the same series without it, if there is one."""


class SecurityStatus(Record):
    """What was known of the release when the package was built."""

    advisories: tuple[KnownAdvisory, ...]
    """Those that the package has."""
    suspected: tuple[str, ...] = ()
    """Those that are published for other series only, and whose code this one has, too."""
    fixed: tuple[str, ...]
    """Those that its patches fix."""
    support_ends: date | None
    """Last day of upstream's support of the series, if known."""


class BundledFile(Record):
    """A library, plugin of a library or program in the package that does not belong to Slurm."""

    file: str
    """Path within `software/`."""
    soname: str | None = None
    """The original soname of a library; plugins and programs have none."""
    kind: Literal["library", "program"] = "library"
    sha256: Sha256
    """Checksum of the file in the package, after stripping and relocation."""
    package: str
    """Distribution package it comes from."""
    package_version: str
    package_arch: str
    """As the package manager names it, such as amd64."""
    source_package: str | None = None
    """Source package if its name differs: advisories use it."""
    package_type: Literal["deb", "generic"] = "deb"
    """Type of a package URL."""
    needs: tuple[str, ...] = ()
    """`file` of each bundled library that it needs."""
    spack_hash: str | None = None
    """Spack's hash of the package with all its dependencies."""


class HostRequirement(Record):
    """A library that stays outside."""

    soname: str
    reason: str
    required: bool
    """Whether files of the package are linked with it. Others are only opened if installed."""
    packages: dict[str, str]
    """Packages that provide it, by package manager."""


class Step(Record):
    """A step of the build and its duration in seconds."""

    name: str
    seconds: float


class Limit(Record):
    """A limit compared to an ordinary installation."""

    limit: str
    consequence: str


class File(Record):
    """A published file beside the manifest, its size in bytes."""

    name: Name
    size: int
    sha256: Sha256

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        """The record of a finished file."""
        return cls(name=artifact.path.name, size=artifact.size, sha256=artifact.sha256)


class SpackPackage(Record):
    """A package that Spack installed for the build."""

    name: Name
    version: str
    hash: str
    """Spack's hash of the package with all its dependencies."""
    run_time: bool
    """Whether Slurm needs it at run time; others are build dependencies."""
    cached: bool
    """Whether it came from a build cache."""
    seconds: float

    @property
    def label(self) -> str:
        """Name and version, as Spack prints them."""
        return f"{self.name}@{self.version}"


class BuildCacheUse(Record):
    """How a remote build cache served a build."""

    url: str
    """Without a password."""
    wanted: int
    """Number of packages that no build cache of the machine and none before this one had."""
    taken: int
    """Number of these that came from it."""
    refused: int
    """Number of these that it has, but not signed by a trusted key, or damaged."""
    seconds: float
    """How long fetching and checking took."""


class SpackBuild(Record):
    """The record of Spack for a package."""

    concretized: bool
    """False: the lock of an earlier build was used."""
    packages: tuple[SpackPackage, ...]
    externals: tuple[str, ...] = ()
    """Run-time libraries that the site's own configuration takes from the base: name@version."""
    configure: tuple[str, ...] = ()
    """Arguments of Slurm's configure; empty if the recipe did not keep them."""
    compiler_cache_hits: int = 0
    compiler_cache_misses: int = 0
    lock: dict[str, JsonValue] = {}
    """Content of the spack.lock; empty in manifests of earlier versions."""
    buildcaches: tuple[BuildCacheUse, ...] = ()
    """Remote build caches, in the order in which they were asked."""

    @property
    def taken(self) -> int:
        """Number of packages that remote build caches had."""
        return sum(cache.taken for cache in self.buildcaches)

    @property
    def cached(self) -> int:
        """Number of packages from a build cache."""
        return sum(package.cached for package in self.packages)


class Verified(Record):
    """Clusters that ran from the package on other distributions."""

    at: AwareDatetime
    on: tuple[str, ...]
    """Distributions, such as Debian 13."""
    record: File
    """The file with all checks."""


class Manifest(Record):
    """The manifest: content, sources, build record, times and verification."""

    manifest_version: Literal[1] = JSON_VERSION
    identity: PackageIdentity
    build_key: Sha256
    created: AwareDatetime
    slurm_factory: str
    """Version of slurm-factory."""
    source: Source
    plan: dict[str, JsonValue]
    """As `--dry-run` prints it: patches and additional sources with checksums, variants, flags."""
    base_record: dict[str, JsonValue]
    """The content of the base: every package with its version, including the compiler.

    With Spack, packages from the build cache (`cached` in `spack`) may have been compiled in an
    earlier base, by another revision of the compiler.
    """
    features: tuple[str, ...]
    configure: tuple[str, ...]
    """Arguments of Slurm's configure."""
    steps: tuple[Step, ...]
    bundled: tuple[BundledFile, ...]
    """Every ELF file of the package that is not Slurm's own."""
    host_requirements: tuple[HostRequirement, ...]
    glibc: str
    """Highest glibc symbol version that a file needs, such as 2.36."""
    distributions: tuple[str, ...]
    """Distributions that have this glibc."""
    hardening: dict[Group, dict[Figure, Share]] = {}
    """How many files have each property; empty in manifests of earlier versions."""
    limits: tuple[Limit, ...] = ()
    patches: tuple[AppliedPatch, ...] = ()
    """Patches of Slurm's source, in order; empty in manifests of earlier versions."""
    security: SecurityStatus | None = None
    """None in manifests of earlier versions."""
    spack: SpackBuild | None = None
    """None for packages of the recipe `system`."""
    verified: Literal[False] | Verified = False
    """False until `verify` has seen the package work."""
    files: tuple[File, ...] = Field(min_length=1)


def write_manifest(manifest: Manifest, directory: Path) -> Path:
    """Write the manifest under its name into `directory` (host) and return its path.

    Raises:
        OutputError: It cannot be written.
    """
    text = manifest.model_dump_json(indent=2) + "\n"
    return write_text(directory / manifest.identity.manifest, text)


def load_manifest(path: Path) -> Manifest:
    """The manifest at `path` (host).

    Raises:
        OutputError: It cannot be read, is not a manifest, or has a version this slurm-factory
            does not know.
    """
    try:
        return parse_manifest(read_bytes(path), path)
    except OSError as error:
        raise _unusable(path, f"{error.strerror or error}.") from error


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """The manifest that was read from `path` (host); raises as `load_manifest` does."""
    try:
        version = parse_json(content)["manifest_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(path, "It is not a manifest of slurm-factory.") from error
    if version != JSON_VERSION:
        raise OutputError(
            f"The manifest {path} has version {version}.",
            details=f"This slurm-factory supports version {JSON_VERSION}.",
            resolution="Use the slurm-factory that wrote it, or a newer one: uv tool upgrade"
            " slurm-factory",
        )
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _unusable(path, f"{where}: {first['msg']}") from error


def _unusable(path: Path, details: str) -> OutputError:
    return OutputError(
        f"The manifest {path} cannot be used.",
        details=details,
        resolution=f"Remove it and build again: rm {shlex.quote(str(path))}",
    )
