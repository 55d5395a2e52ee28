"""A small package, as the tests of packaging and of the module files need it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from slurm_factory.constants import BuildType, Deps
from slurm_factory.package.distributions import distributions_with
from slurm_factory.package.licenses import write_identity
from slurm_factory.package.manifest import (
    BundledFile,
    File,
    HostRequirement,
    Limit,
    Manifest,
    PackageIdentity,
    Source,
    Step,
    write_manifest,
)
from slurm_factory.package.publish import describe, publish, write_checksums
from slurm_factory.package.tarball import pack
from slurm_factory.relocate.hardening import Hardening, Relro, count

EPOCH = 1_746_576_000

IDENTITY = PackageIdentity(
    stem="slurm-24.11-debian-12-system",
    version="24.11",
    release="24.11.5",
    spack_version="24-11-5-1",
    build_type=BuildType.STANDARD,
    base="debian@12",
    deps=Deps.SYSTEM,
    arch="x86_64",
    epoch=EPOCH,
)

SOURCE = Source(
    url="https://github.com/SchedMD/slurm/archive/refs/tags/slurm-24-11-5-1.tar.gz",
    sha256="5" * 64,
    tag="slurm-24-11-5-1",
)

ZLIB = BundledFile(
    file="lib/private/libz-0a1b2c3d.so.1.2.13",
    soname="libz.so.1",
    sha256="1" * 64,
    package="zlib1g",
    package_version="1:1.2.13.dfsg-1",
    package_arch="amd64",
    source_package="zlib",
)
CURL = BundledFile(
    file="lib/private/libcurl-4d5e6f70.so.4.8.0",
    soname="libcurl.so.4",
    sha256="2" * 64,
    package="libcurl4",
    package_version="7.88.1-10+deb12u12",
    package_arch="amd64",
    source_package="curl",
    needs=(ZLIB.file,),
)


def make_manifest(files: tuple[File, ...], build_key: str = "a" * 64) -> Manifest:
    return Manifest(
        identity=IDENTITY,
        build_key=build_key,
        created=datetime(2025, 5, 7, 12, 0, tzinfo=UTC),
        slurm_factory="0.1.0",
        source=SOURCE,
        plan={"patches": [{"name": "relocatable.patch", "sha256": "c" * 64}], "gpu": False},
        base_record={"base": "debian@12", "packages": {"gcc-12:amd64": "12.2.0-14"}},
        features=("munge", "restd"),
        configure=("--sysconfdir=/etc/slurm",),
        steps=(Step(name="make", seconds=126.0),),
        bundled=(CURL, ZLIB),
        host_requirements=(
            HostRequirement(
                soname="libpam.so.0",
                reason="loads host modules",
                required=True,
                packages={"apt": "libpam0g"},
            ),
        ),
        glibc="2.36",
        distributions=distributions_with("2.36"),
        hardening={
            "slurm": count([Hardening(Relro.PARTIAL, pie=True, canary=True)]),
            "bundled": count([Hardening(Relro.FULL), Hardening(canary=False)]),
        },
        limits=(Limit(limit="no seff", consequence="use sacct"),),
        files=files,
    )


def stage(directory: Path, content: str = "content") -> Path:
    """A staged artifact: two tarballs, checksums, and the manifest whose path is returned."""
    tree = directory / "tree"
    tree.mkdir(parents=True)
    (tree / "file").write_text(content)
    tarballs = [
        pack(tree, directory / name, top="", mtime=EPOCH)
        for name in (IDENTITY.software_tarball, IDENTITY.module_tarball)
    ]
    checksums = write_checksums(tarballs, directory / IDENTITY.checksums)
    files = tuple(File.of(artifact) for artifact in (*tarballs, checksums))
    assert describe(tarballs[0].path) == tarballs[0]
    return write_manifest(make_manifest(files), directory)


def publish_package(
    directory: Path,
    release: str,
    kind: str = "",
    *,
    files: Mapping[str, int] = MappingProxyType({}),
    **changes: object,
) -> Path:
    """A finished package of a release, whose manifest is returned.

    Args:
        directory: Of the finished builds of its series; beside it, the package is staged.
        release: Release of Slurm.
        kind: What follows the version in its name, such as -gpu.
        files: Size in bytes of each file in its tree.
        changes: Other fields of the manifest.
    """
    staging, version = directory.parent / f"staging-{release}{kind}", directory.name
    named = {"stem": f"slurm-{version}{kind}", "version": version, "release": release}
    identity = IDENTITY.model_copy(update=named)
    write_identity(staging / "tree", identity)
    for name, size in files.items():
        (staging / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / "tree" / name).write_bytes(bytes(size))
    tarballs = [
        pack(staging / "tree", staging / name, top="software", mtime=EPOCH)
        for name in (identity.software_tarball, identity.module_tarball)
    ]
    packed = (*tarballs, write_checksums(tarballs, staging / identity.checksums))
    made = make_manifest(tuple(File.of(artifact) for artifact in packed))
    manifest = made.model_copy(update={"identity": identity, **changes})
    return publish(write_manifest(manifest, staging), directory)
