"""From an installed tree to the staged files of a package: relocate, audit, pack, describe."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from slurm_factory import __version__
from slurm_factory.constants import EVERY_BUILDS_PATHS
from slurm_factory.exceptions import VerificationError
from slurm_factory.package.deployment import write_deployment
from slurm_factory.package.distributions import distributions_with, require_startable
from slurm_factory.package.licenses import (
    LICENSES,
    collect_common_licenses,
    collect_licenses,
    write_identity,
)
from slurm_factory.package.manifest import (
    BundledFile,
    File,
    HostRequirement,
    KnownAdvisory,
    Limit,
    Manifest,
    PackageIdentity,
    SecurityStatus,
    Source,
    Step,
    write_manifest,
)
from slurm_factory.package.modules import write_modules
from slurm_factory.package.provenance import write_provenance
from slurm_factory.package.publish import describe, write_checksums
from slurm_factory.package.sbom import SlurmSource, write_sbom
from slurm_factory.package.tarball import Artifact, pack
from slurm_factory.plan.advisories import known_advisories, support_ends, suspected_advisories
from slurm_factory.relocate.audit import AuditReport, audit
from slurm_factory.relocate.elf import ElfFacts, ElfKind, read_elf
from slurm_factory.relocate.hardening import (
    Figure,
    Group,
    HardeningByPath,
    Share,
    count,
    load_floors,
    require_floors,
)
from slurm_factory.relocate.policy import load_policy
from slurm_factory.relocate.relocate import Relocation, relocate
from slurm_factory.util.tar_stream import refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_factory.job import Job
    from slurm_factory.package.built import Built
    from slurm_factory.plan.plan import BuildPlan

PLUGINS = PurePosixPath("lib/slurm")
NO_GLIBC = "2.0"
"""Of files that need no version of a symbol."""


def assemble(job: Job, built: Built, base_record: Mapping[str, Any]) -> Path:
    """Make a package from the result of a recipe, in the work directory.

    Args:
        job: Job of this build.
        built: Its tree is changed in place.
        base_record: The content of the base.

    Returns:
        The staged manifest (host), beside the files that it lists.

    Raises:
        VerificationError: A library is missing, the audit found problems, or the files are less
            hardened than before.
        OutputError: A file cannot be written.
    """
    identity = identity_of(job.plan)
    reporter, tree = job.reporter, built.tree
    staging = job.workspace.artifacts
    staging.mkdir()
    with reporter.step("Relocate"):
        relocation = relocate(tree, built.closure, load_policy())
        _add_licenses(tree, relocation)
        collect_common_licenses(tree, built.common_licenses)
        write_identity(tree, identity)
    with reporter.step("Audit"):
        plan, paths = job.plan, _build_paths(job, built)
        report = audit(tree, load_policy(), paths, plan.floor, plan.architecture)
        report.require_clean()
        if job.plan.floor:
            require_startable(job.plan.floor, _versions(report))
        bundled = _bundled(built, relocation, report)
        hardening = _hardening(report, bundled)
        _require_hardening(job, report, hardening)
    with reporter.step("Pack"):
        required = sorted(library.soname for library in report.outside if library.linked_by)
        write_deployment(tree, identity, report.glibc or NO_GLIBC, required)
        packed = _pack(identity, job, built, staging, bundled)
        files = _describe_all(job, built, base_record, packed)
    counted = {group: count(each.values()) for group, each in hardening.items()}
    manifest = _manifest(job, built, base_record, report, bundled, counted, files)
    return write_manifest(manifest, staging)


def identity_of(plan: BuildPlan) -> PackageIdentity:
    """The identity of the package."""
    return PackageIdentity(
        stem=plan.stem,
        version=plan.version,
        release=plan.release.release + plan.suffix,
        spack_version=plan.release.spack_version,
        build_type=plan.build_type,
        base=plan.base.name,
        deps=plan.deps,
        arch=plan.architecture,
        cpu=plan.cpu,
        epoch=plan.release.epoch,
    )


def _build_paths(job: Job, built: Built) -> tuple[str, ...]:
    paths = {*map(str, EVERY_BUILDS_PATHS), *built.build_paths, str(job.settings.cache_dir)}
    return tuple(sorted(paths))


def _versions(report: AuditReport) -> tuple[str, ...]:
    """Versions of symbols that files need of libraries of the machine."""
    linked = (library for library in report.outside if library.linked_by)
    return tuple(sorted({version for library in linked for version in library.versions}))


def _add_licenses(tree: Path, relocation: Relocation) -> None:
    """Add one license text for each package with bundled files."""
    texts = {item.library.package: item.library.licenses for item in relocation.bundled}
    texts |= {item.directory.package: item.directory.licenses for item in relocation.directories}
    collect_licenses(tree, {package: licenses[0] for package, licenses in texts.items()})


def _bundled(built: Built, relocation: Relocation, report: AuditReport) -> tuple[BundledFile, ...]:
    """Every ELF file that does not belong to Slurm, with its package."""
    names = {item.path: item.library.package for item in relocation.bundled}
    packages = {
        item.path: built.packages[
            names.get(item.path) or _package_of_directory(item.path, relocation)
        ]
        for item in report.bundled
    }
    packages |= built.installed
    sonames = {item.path: item.soname for item in report.bundled}
    by_name = {item.path.name: str(item.path) for item in report.bundled}
    facts = {path: _facts(built.tree, path) for path in packages}
    return tuple(
        BundledFile(
            file=str(path),
            soname=sonames.get(path) if facts[path].soname else None,
            kind="program" if facts[path].kind is ElfKind.EXECUTABLE else "library",
            sha256=hashlib.sha256((built.tree / path).read_bytes()).hexdigest(),
            package=package.name,
            package_version=package.version,
            package_arch=package.architecture,
            source_package=package.source if package.kind == "deb" else None,
            package_type=package.kind,
            spack_hash=package.spack_hash,
            needs=tuple(by_name[name] for name in facts[path].needed if name in by_name),
        )
        for path, package in sorted(packages.items())
    )


def _facts(tree: Path, path: PurePosixPath) -> ElfFacts:
    facts = read_elf(tree / path) if (tree / path).is_file() else None
    if facts is None:
        raise refused(f"{path} is no program or library, although a list says so.")
    return facts


def _require_hardening(
    job: Job, report: AuditReport, hardening: dict[Group, HardeningByPath]
) -> None:
    totals = ", ".join(f"{figure} {share}" for figure, share in report.totals.items())
    job.reporter.line(f"Hardening: {totals}")
    # Other recipes may select other compilers, flags and packages.
    if job.plan.spack is not None and not job.plan.spack.has_default_recipes:
        return
    try:
        require_floors(hardening, load_floors()[job.plan.deps])
    except VerificationError as error:
        # The floors are those of the catalog's releases.
        if not job.plan.site_patches and not job.plan.release.location:
            raise
        job.reporter.warning(f"{error.brief} {error.details}")


def _hardening(
    report: AuditReport, bundled: tuple[BundledFile, ...]
) -> dict[Group, HardeningByPath]:
    foreign = {item.file for item in bundled}
    groups: dict[Group, HardeningByPath] = {"slurm": {}, "plugins": {}, "bundled": {}}
    for path, hardening in report.hardening.items():
        own: Group = "plugins" if _is_plugin(path) else "slurm"
        groups["bundled" if str(path) in foreign else own][path] = hardening
    return groups


def _is_plugin(path: PurePosixPath) -> bool:
    """Whether a file of Slurm (relative to the tree) is a plugin, not a library beside them."""
    return path.parent == PLUGINS and not path.name.startswith("lib")


def _package_of_directory(path: PurePosixPath, relocation: Relocation) -> str:
    placed = (item for item in relocation.directories if path.is_relative_to(item.target))
    return next(placed).directory.package


def _pack(
    identity: PackageIdentity,
    job: Job,
    built: Built,
    staging: Path,
    bundled: tuple[BundledFile, ...],
) -> tuple[Artifact, ...]:
    tree, modules = built.tree, job.workspace.work / "modules"
    write_modules(identity, modules)
    license_text = (tree / LICENSES / "slurm" / "LICENSE.OpenSSL").read_text(errors="replace")
    software = pack(tree, staging / identity.software_tarball, top="software", mtime=identity.epoch)
    module = pack(modules, staging / identity.module_tarball, top="", mtime=identity.epoch)
    source = SlurmSource(_source(job), built.patches, license_text)
    sbom = describe(write_sbom(identity, source, bundled, staging))
    return software, module, sbom


def _describe_all(
    job: Job, built: Built, base_record: Mapping[str, Any], packed: tuple[Artifact, ...]
) -> tuple[Artifact, ...]:
    """All files of the package but the manifest: with the provenance, and the checksums of all."""
    names, staging = identity_of(job.plan).names, job.workspace.artifacts
    statement = write_provenance(job, built, base_record, packed, staging / names.provenance)
    listed = (*packed, describe(statement))
    return (*listed, write_checksums(listed, staging / names.checksums))


def _source(job: Job) -> Source:
    release = job.plan.release
    return Source(url=release.url, sha256=release.sha256, tag=release.tag, commit=release.commit)


def _manifest(
    job: Job,
    built: Built,
    base_record: Mapping[str, Any],
    report: AuditReport,
    bundled: tuple[BundledFile, ...],
    hardening: dict[Group, dict[Figure, Share]],
    files: tuple[Artifact, ...],
) -> Manifest:
    plan, glibc = job.plan, report.glibc or NO_GLIBC
    return Manifest(
        identity=identity_of(plan),
        build_key=plan.build_key(base_record),
        created=datetime.now(UTC),
        slurm_factory=__version__,
        source=_source(job),
        plan=_json(plan.describe()),
        base_record=_json(base_record),
        features=tuple(feature.name for feature in plan.selection.chosen),
        configure=built.configure,
        spack=built.spack,
        steps=tuple(Step(name=s.name, seconds=s.seconds) for s in job.reporter.steps),
        bundled=bundled,
        host_requirements=tuple(
            HostRequirement(
                soname=library.soname,
                reason=library.reason,
                required=bool(library.linked_by),
                packages=library.packages,
            )
            for library in report.outside
        ),
        glibc=glibc,
        distributions=distributions_with(glibc, _versions(report)),
        hardening=hardening,
        patches=built.patches,
        security=_security(plan),
        limits=tuple(Limit(limit=limit.id, consequence=limit.text) for limit in report.limits),
        files=tuple(File.of(artifact) for artifact in files),
    )


def _security(plan: BuildPlan) -> SecurityStatus:
    release = plan.release
    return SecurityStatus(
        advisories=tuple(
            KnownAdvisory(
                id=each.id, summary=each.summary, fixed_in=each.fixed.get(release.series, "")
            )
            for each in known_advisories(release.release, plan.fixed_advisories)
        ),
        suspected=tuple(
            each.id for each in suspected_advisories(release.release, plan.fixed_advisories)
        ),
        fixed=plan.fixed_advisories,
        support_ends=support_ends(release.series),
    )


def _json(document: Mapping[str, Any]) -> dict[str, Any]:
    """As read back from a file: lists instead of tuples."""
    content: dict[str, Any] = json.loads(json.dumps(dict(document)))
    return content
