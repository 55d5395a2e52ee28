"""The options and arguments of the commands, as types with their help."""

from pathlib import Path
from typing import Annotated

import typer

from slurm_factory import completion, usage
from slurm_factory.constants import ROLES

# Groups of options in --help.
CONTENT, SOURCE, PLATFORM = "Content", "Source", "Platform"
BUILDING = "Building"
WHERE, CHECKS = "Where", "Checks"
REMOVED = "What to remove"
INSTALLED, CLUSTER, VERSIONS = "Installation", "Cluster", "Versions"
ADVISORIES = "Advisories"
CELLS, POOL = "Cells", "Pool"

Version = Annotated[
    str,
    typer.Option(
        metavar="RELEASE",
        help="A series (25.05: its newest release), a release (25.05.8), or latest.",
        autocompletion=completion.versions,
        rich_help_panel=CONTENT,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=usage.GENERAL)
]
Gpu = Annotated[bool, typer.Option("--gpu", help="Add GPU detection.", rich_help_panel=CONTENT)]
Minimal = Annotated[
    bool,
    typer.Option(
        "--minimal",
        help="Munge, readline, nss_slurm and completion in bash only.",
        rich_help_panel=CONTENT,
    ),
]
Variants = Annotated[
    str,
    typer.Option(
        metavar="VARIANTS",
        help='Features to add or remove, such as "+hdf5 ~restd".',
        autocompletion=completion.variants,
        rich_help_panel=CONTENT,
    ),
]
Deps = Annotated[
    str,
    typer.Option(
        help="Source of the libraries. spack: built from source; system: from the base.",
        metavar="spack|system",
        autocompletion=completion.recipes,
        rich_help_panel=PLATFORM,
    ),
]
Base = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Distribution to build on; same: the one of this machine.",
        autocompletion=completion.bases,
        rich_help_panel=PLATFORM,
    ),
]
Glibc = Annotated[
    str,
    typer.Option(
        metavar="2.28|...|base",
        help="Newest glibc that the package may need; default with Spack: 2.28.",
        autocompletion=completion.glibcs,
        rich_help_panel=PLATFORM,
    ),
]
Arch = Annotated[
    str,
    typer.Option(
        "--arch",
        metavar="x86_64|aarch64",
        help="Architecture to build for; default: that of this machine.",
        autocompletion=completion.architectures,
        rich_help_panel=PLATFORM,
    ),
]
Source = Annotated[
    str,
    typer.Option(
        metavar="FILE|URL|DIR|git+URL@REF",
        help="Your own source of Slurm: an archive, or a commit of a git repository.",
        rich_help_panel=SOURCE,
    ),
]
Sha256 = Annotated[
    str,
    typer.Option(
        metavar="SUM",
        help="Checksum of --source, or of a release without one in the catalog.",
        rich_help_panel=SOURCE,
    ),
]
Patch = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="A patch, or a directory with a quilt series; may be repeated.",
        rich_help_panel=SOURCE,
    ),
]
Suffix = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Name of the patches in the package's name, such as site1.",
        rich_help_panel=SOURCE,
    ),
]
NoBackports = Annotated[
    bool,
    typer.Option(
        "--no-backports",
        help="Leave out Debian's patches for old releases.",
        rich_help_panel=SOURCE,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse a release with known advisories.", rich_help_panel=BUILDING
    ),
]
Destructive = Annotated[
    bool,
    typer.Option(
        "--destructive-mode",
        help="Build on this machine, not in LXD.",
        rich_help_panel=BUILDING,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Number of parallel compilers; default: by CPUs and memory.",
        rich_help_panel=BUILDING,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Download nothing; list missing sources and stop.",
        rich_help_panel=BUILDING,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Build even if the package is up to date.", rich_help_panel=BUILDING
    ),
]
Remote = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Remote of lxc whose LXD is used, a server or a cluster.",
        rich_help_panel=WHERE,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="MEMBER|@GROUP",
        help="Member of that cluster, or group of members; default: LXD chooses.",
        rich_help_panel=WHERE,
    ),
]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep-instance", help="Always keep the build instance.", rich_help_panel=BUILDING
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Run clusters from the package, as `verify` does.",
        rich_help_panel=BUILDING,
    ),
]
Sign = Annotated[
    str,
    typer.Option(
        "--sign",
        metavar="KEY",
        help="Sign the package with this key of the keyring (GnuPG), best by its fingerprint.",
        rich_help_panel=BUILDING,
    ),
]
SignAgain = Annotated[
    str,
    typer.Option(
        "--sign",
        metavar="KEY",
        help="Note the result in a signed manifest, too, and sign it again with this key.",
        rich_help_panel=CHECKS,
    ),
]
PlanOnly = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan only.", rich_help_panel=BUILDING)
]
Packages = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PACKAGE]...",
        help="Names or paths, as `list` prints them, or manifests; default: all.",
        autocompletion=completion.packages,
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare", help="Show what differs between two packages, which may be tarballs."
    ),
]
Libraries = Annotated[
    bool,
    typer.Option(
        "--libraries",
        help="Look up known advisories of bundled libraries.",
        rich_help_panel=ADVISORIES,
    ),
]
Osv = Annotated[
    str,
    typer.Option(
        metavar="FILE|URL",
        help="OSV records for libraries of Spack and Ubuntu.",
        rich_help_panel=ADVISORIES,
    ),
]
Advisory = Annotated[
    str,
    typer.Option(
        metavar="ID",
        help="Only packages that have this advisory, such as CVE-2026-65107.",
        autocompletion=completion.advisories,
        rich_help_panel=ADVISORIES,
    ),
]
NamedPackages = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PACKAGE]...",
        help="Only these finished builds, as `list` prints them.",
        autocompletion=completion.packages,
    ),
]
Newest = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Only finished builds: all but the newest N of each series and kind.",
        rich_help_panel=REMOVED,
    ),
]
Age = Annotated[
    str | None,
    typer.Option(
        metavar="AGE",
        help="Only objects older than this, such as 12h, 30d or 4w.",
        rich_help_panel=REMOVED,
    ),
]
Package = Annotated[
    str,
    typer.Argument(
        metavar="PACKAGE",
        help="Name of a build, or path of a manifest or of a tarball.",
        autocompletion=completion.packages,
    ),
]
Distros = Annotated[
    str,
    typer.Option(
        metavar="NAME,...",
        help="Distributions, such as debian@11,ubuntu@24.04; default: the oldest and the newest"
        " on which it starts.",
        autocompletion=completion.distros,
        rich_help_panel=WHERE,
    ),
]
OlderPackage = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        help="Also upgrade a cluster of this older package; repeat it for more hops.",
        autocompletion=completion.packages,
        rich_help_panel=CHECKS,
    ),
]
GivenSource = Annotated[
    str,
    typer.Option(
        "--source",
        metavar="FILE|URL|DIR|git+URL@REF",
        help="The source of the package, if it was your own.",
        rich_help_panel=SOURCE,
    ),
]
GivenPatch = Annotated[
    list[Path] | None,
    typer.Option(
        "--patch",
        metavar="PATH",
        help="Your patches in the package, in their order; may be repeated.",
        rich_help_panel=SOURCE,
    ),
]
WithCaches = Annotated[
    bool,
    typer.Option(
        "--with-caches",
        help="Take what earlier builds have compiled: fast, and proves less.",
        rich_help_panel=BUILDING,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Show what the commands of a build print.",
        rich_help_panel=usage.GENERAL,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show errors only.", rich_help_panel=usage.GENERAL)
]

MatrixFile = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="TOML file with a matrix; options replace lists of it."),
]
SeriesList = Annotated[
    str,
    typer.Option(
        "--series",
        metavar="RELEASE,...",
        help="Series, releases, latest, or all for every series.",
        autocompletion=completion.version_lists,
        rich_help_panel=CELLS,
    ),
]
TypeList = Annotated[
    str,
    typer.Option(
        "--type",
        metavar="TYPE,...",
        help="Build types: standard (default), gpu, minimal.",
        autocompletion=completion.type_lists,
        rich_help_panel=CELLS,
    ),
]
BaseList = Annotated[
    str,
    typer.Option(
        "--base",
        metavar="NAME,...",
        help="Distributions to build on; default: that of build.",
        autocompletion=completion.distros,
        rich_help_panel=CELLS,
    ),
]
DepsList = Annotated[
    str,
    typer.Option(
        "--deps",
        metavar="spack,system",
        help="Sources of the libraries; default: spack.",
        autocompletion=completion.recipe_lists,
        rich_help_panel=CELLS,
    ),
]
ArchList = Annotated[
    str,
    typer.Option(
        "--arch",
        metavar="x86_64,aarch64",
        help="Architectures; default: that of this machine.",
        autocompletion=completion.architecture_lists,
        rich_help_panel=CELLS,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help='Leave out cells that have all these words, such as "25.05 gpu ubuntu@*"; may be'
        " repeated.",
        rich_help_panel=CELLS,
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Builds at a time; default: by CPUs, memory and disk.",
        rich_help_panel=POOL,
    ),
]
CellJobs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Parallel compilers of each build; default: by CPUs and builds at a time.",
        rich_help_panel=POOL,
    ),
]
FailFast = Annotated[
    bool,
    typer.Option(
        "--fail-fast",
        help="Begin no build after one has failed; those that run go on.",
        rich_help_panel=POOL,
    ),
]
Notify = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COMMAND|URL",
        help="Give the result, as JSON, to a command or post it to a URL; may be repeated.",
        rich_help_panel=POOL,
    ),
]

Deployed = Annotated[
    str,
    typer.Argument(
        metavar="[PACKAGE]",
        help="Name of a build, or path of a manifest or of a tarball.",
        autocompletion=completion.packages,
    ),
]
Start = Annotated[
    bool,
    typer.Option(
        "--start",
        help="Enable and start the daemons; restart those that run.",
        rich_help_panel=CLUSTER,
    ),
]
NoSwitch = Annotated[
    bool, typer.Option("--no-switch", help="Only unpack.", rich_help_panel=INSTALLED)
]
Rollback = Annotated[
    bool,
    typer.Option(
        "--rollback",
        help="Switch to the version that was current before.",
        rich_help_panel=VERSIONS,
    ),
]
VersionsList = Annotated[
    bool, typer.Option("--list", help="Show the versions.", rich_help_panel=VERSIONS)
]
Switch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Switch to a version that is there.",
        autocompletion=completion.deployed,
        rich_help_panel=VERSIONS,
    ),
]
Remove = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Remove a version that nothing uses.",
        autocompletion=completion.deployed,
        rich_help_panel=VERSIONS,
    ),
]
KeepVersions = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Remove all versions but the N newest.", rich_help_panel=VERSIONS
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Directory of all versions; default: /opt/slurm.",
        rich_help_panel=INSTALLED,
    ),
]
Role = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ROLE,...",
        help=f"Write units for {', '.join(ROLES[:-1])} or {ROLES[-1]}.",
        autocompletion=completion.roles,
        rich_help_panel=CLUSTER,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Write a first configuration for a cluster.", rich_help_panel=CLUSTER
    ),
]
Nodes = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Compute nodes for --config; default: this machine.",
        rich_help_panel=CLUSTER,
    ),
]
ConfServer = Annotated[
    str | None,
    typer.Option(
        metavar="HOST",
        help="Controller from which nodes fetch the configuration.",
        rich_help_panel=CLUSTER,
    ),
]
SlurmUid = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Id of a new user slurm; default: 64030.", rich_help_panel=CLUSTER
    ),
]
StateBackup = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Backup of the state that an older version can read.",
        rich_help_panel=VERSIONS,
    ),
]
PlanUpgrade = Annotated[
    tuple[str, str] | None,
    typer.Option(
        metavar="FROM TO",
        help="Print the legal way from one series to another.",
        autocompletion=completion.upgraded_series,
        rich_help_panel=VERSIONS,
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="Write below DIR, for an image of a machine.", rich_help_panel=INSTALLED
    ),
]
PublishedPackages = Annotated[
    list[str],
    typer.Argument(
        metavar="PACKAGE... [URL]",
        help="Names of builds or paths of manifests, and the URL of a store (file://, s3://,"
        " oci://); default: the setting store.",
        autocompletion=completion.packages,
    ),
]
NewestInStore = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Remove all but the newest N packages of each series and kind from the store.",
    ),
]
FetchedName = Annotated[
    str,
    typer.Argument(
        metavar="[NAME]",
        help="A package, or a series (25.05), a release or latest: the newest package that fits"
        " this machine.",
        autocompletion=completion.versions,
    ),
]
StoreUrl = Annotated[
    str,
    typer.Argument(
        metavar="[URL]",
        help="The store (file://, http://, https://, s3://, oci://); default: the setting store.",
    ),
]
ListStore = Annotated[bool, typer.Option("--list", help="Show what the store has.")]
AnyDeps = Annotated[
    str,
    typer.Option(
        metavar="spack|system",
        help="Only packages of this recipe.",
        autocompletion=completion.recipes,
        rich_help_panel=PLATFORM,
    ),
]
AnyBase = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Only packages that were built on this distribution.",
        autocompletion=completion.bases,
        rich_help_panel=PLATFORM,
    ),
]
AnyArch = Annotated[
    str,
    typer.Option(
        metavar="x86_64|aarch64",
        help="Architecture of the package; default: that of this machine.",
        autocompletion=completion.architectures,
        rich_help_panel=PLATFORM,
    ),
]
HighestGlibc = Annotated[
    str,
    typer.Option(
        metavar="VERSION",
        help="Newest glibc that the package may need; default: that of this machine.",
        autocompletion=completion.glibcs,
        rich_help_panel=PLATFORM,
    ),
]
