"""The content of a package for scanners: a CycloneDX document."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import (
    AttachedText,
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import (
    Component,
    ComponentType,
    Diff,
    Patch,
    PatchClassification,
    Pedigree,
)
from cyclonedx.model.issue import IssueClassification, IssueType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from slurm_factory.package.manifest import AppliedPatch, BundledFile, PackageIdentity, Source
from slurm_factory.plan.releases import DOWNLOADS, TAGS
from slurm_factory.util.files import write_text

SLURM_LICENSE = "GPL-2.0-or-later with OpenSSL exception"
"""By name: SPDX has no identifier for Slurm's own wording of the exception."""


@dataclass(frozen=True)
class SlurmSource:
    """The source that Slurm was built from.

    Attributes:
        archive: The archive.
        patches: Patches to it, in order.
        license_text: Text of the license with its exception (upstream's LICENSE.OpenSSL).
    """

    archive: Source
    patches: tuple[AppliedPatch, ...]
    license_text: str


def write_sbom(
    identity: PackageIdentity,
    source: SlurmSource,
    bundled: Sequence[BundledFile],
    directory: Path,
) -> Path:
    """Write a CycloneDX 1.6 document under its name into `directory` and return its path.

    The document depends only on the arguments: its serial number derives from its content, its time
    is that of the Slurm release.

    Args:
        identity: Identity of the package.
        source: The source that Slurm was built from.
        bundled: All bundled files, including their dependencies.
        directory: Target directory (host).

    Raises:
        OutputError: It cannot be written.
    """
    bom = _bom(identity, source, bundled)
    bom.serial_number = uuid.UUID(int=0)
    content = hashlib.sha256(_json(bom).encode()).hexdigest()
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, content)
    return write_text(directory / identity.sbom, _json(bom) + "\n")


def _json(bom: Bom) -> str:
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _bom(
    identity: PackageIdentity,
    source: SlurmSource,
    bundled: Sequence[BundledFile],
) -> Bom:
    slurm = _slurm(identity, source)
    components = {item.file: _component(item, identity.base) for item in bundled}
    bom = Bom(
        metadata=BomMetaData(
            component=slurm, timestamp=datetime.fromtimestamp(identity.epoch, tz=UTC)
        ),
        components=components.values(),
    )
    bom.register_dependency(slurm, components.values())
    for item in bundled:
        bom.register_dependency(
            components[item.file], [components[needed] for needed in item.needs]
        )
    return bom


def _slurm(identity: PackageIdentity, source: SlurmSource) -> Component:
    archive, license_text = source.archive, source.license_text
    return Component(
        type=ComponentType.APPLICATION,
        name="slurm",
        version=identity.release,
        bom_ref=identity.stem,
        purl=_purl_of_slurm(identity, archive),
        licenses=[DisjunctiveLicense(name=SLURM_LICENSE, text=AttachedText(content=license_text))],
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.SOURCE_DISTRIBUTION,
                url=XsUri(archive.url),
                hashes=[_sha256(archive.sha256)],
            )
        ],
        pedigree=Pedigree(patches=[_patch(patch) for patch in source.patches]),
        properties=[
            Property(name="slurm-factory:patch", value=f"{each.name} {each.origin} {each.sha256}")
            for each in source.patches
        ],
    )


def _purl_of_slurm(identity: PackageIdentity, archive: Source) -> PackageURL:
    """Upstream's tag; for a source of the user's own, where that is from."""
    if archive.commit:
        return PackageURL("generic", None, "slurm", identity.release, {"vcs_url": archive.url})
    if not archive.url.startswith((TAGS, DOWNLOADS)):
        checksum = {"checksum": f"sha256:{archive.sha256}"}
        return PackageURL("generic", None, "slurm", identity.release, checksum)
    return PackageURL("github", "SchedMD", "slurm", archive.tag)


def _patch(patch: AppliedPatch) -> Patch:
    """By name: the text of a site's patch may be nobody else's business."""
    return Patch(
        type=PatchClassification.BACKPORT if patch.fixes else PatchClassification.UNOFFICIAL,
        diff=Diff(url=XsUri(patch.name)),
        resolves=[
            IssueType(type=IssueClassification.SECURITY, id=advisory) for advisory in patch.fixes
        ],
    )


def _component(item: BundledFile, base: str) -> Component:
    about = {"file": item.file, "soname": item.soname, "spack-hash": item.spack_hash}
    kind = ComponentType.APPLICATION if item.kind == "program" else ComponentType.LIBRARY
    return Component(
        type=kind,
        name=item.package,
        version=item.package_version,
        bom_ref=item.file,
        purl=_purl(item, base),
        hashes=[_sha256(item.sha256)],
        properties=[
            Property(name=f"slurm-factory:{name}", value=value)
            for name, value in about.items()
            if value is not None
        ],
    )


def _purl(item: BundledFile, base: str) -> PackageURL:
    """The distribution package (github.com/package-url/purl-spec, types deb, rpm, generic)."""
    distribution, _, release = base.partition("@")
    from_distribution = item.package_type != "generic"
    qualifiers = {"arch": item.package_arch}
    if from_distribution:
        qualifiers["distro"] = f"{distribution}-{release}"
    if item.source_package:
        qualifiers["upstream"] = item.source_package
    return PackageURL(
        item.package_type,
        distribution if from_distribution else None,
        item.package,
        item.package_version,
        qualifiers,
    )


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
