"""What a package contains, for scanners: a CycloneDX document."""

import hashlib
import uuid
from collections.abc import Sequence
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
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from slurm_factory.package.records import BundledLibrary, PackageIdentity, Source
from slurm_factory.package.writing import write_text

SLURM_LICENCE = "GPL-2.0-or-later with OpenSSL exception"
"""By name: SPDX has no identifier for Slurm's own wording of the exception."""


def write_sbom(
    identity: PackageIdentity,
    source: Source,
    licence: str,
    libraries: Sequence[BundledLibrary],
    directory: Path,
) -> Path:
    """Write a CycloneDX 1.6 document under its name into `directory` and return its path.

    The document depends on the arguments alone: its serial number is made of its content, its
    time is that of the Slurm release.

    Args:
        identity: Of the package.
        source: Archive that Slurm was built from.
        licence: Text of Slurm's licence with its exception (upstream's LICENSE.OpenSSL).
        libraries: Everything bundled. What one needs must be among them.
        directory: Where to write (host).

    Raises:
        OutputError: It cannot be written.
    """
    bom = _bom(identity, source, licence, libraries)
    bom.serial_number = uuid.UUID(int=0)
    content = hashlib.sha256(_json(bom).encode()).hexdigest()
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, content)
    return write_text(directory / identity.sbom, _json(bom) + "\n")


def _json(bom: Bom) -> str:
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _bom(
    identity: PackageIdentity,
    source: Source,
    licence: str,
    libraries: Sequence[BundledLibrary],
) -> Bom:
    slurm = _slurm(identity, source, licence)
    components = {library.file: _component(library, identity.base) for library in libraries}
    bom = Bom(
        metadata=BomMetaData(
            component=slurm, timestamp=datetime.fromtimestamp(identity.epoch, tz=UTC)
        ),
        components=components.values(),
    )
    bom.register_dependency(slurm, components.values())
    for library in libraries:
        bom.register_dependency(
            components[library.file], [components[needed] for needed in library.needs]
        )
    return bom


def _slurm(identity: PackageIdentity, source: Source, licence: str) -> Component:
    return Component(
        type=ComponentType.APPLICATION,
        name="slurm",
        version=identity.release,
        bom_ref=identity.stem,
        purl=PackageURL("github", "SchedMD", "slurm", source.tag),
        licenses=[DisjunctiveLicense(name=SLURM_LICENCE, text=AttachedText(content=licence))],
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.SOURCE_DISTRIBUTION,
                url=XsUri(source.url),
                hashes=[_sha256(source.sha256)],
            )
        ],
    )


def _component(library: BundledLibrary, base: str) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=library.package,
        version=library.package_version,
        bom_ref=library.file,
        purl=_purl(library, base),
        hashes=[_sha256(library.sha256)],
        properties=[
            Property(name="slurm-factory:file", value=library.file),
            Property(name="slurm-factory:soname", value=library.soname),
        ],
    )


def _purl(library: BundledLibrary, base: str) -> PackageURL:
    """The distribution package (github.com/package-url/purl-spec, types deb, rpm, generic)."""
    distribution, _, release = base.partition("@")
    from_distribution = library.package_type != "generic"
    qualifiers = {"arch": library.package_arch}
    if from_distribution:
        qualifiers["distro"] = f"{distribution}-{release}"
    if library.source_package:
        qualifiers["upstream"] = library.source_package
    return PackageURL(
        library.package_type,
        distribution if from_distribution else None,
        library.package,
        library.package_version,
        qualifiers,
    )


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
