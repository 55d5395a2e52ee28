"""The names of all files of a package: the one place that lists them. Quick to import."""

from __future__ import annotations

import re
from typing import NamedTuple

MANIFEST_END = "-manifest.json"
VERIFICATION_END = "-verification.json"
SOFTWARE_END = "-software.tar.gz"
CHECKSUMS_END = ".sha256"
SIGNATURE_END = ".asc"
"""Of a detached signature, after the whole name of the signed file."""
BUNDLE_END = ".sigstore.json"


class FileNames(NamedTuple):
    """The files of a package by name, in the order in which `list` and others show them.

    A package has the first five and the manifest, those of earlier versions without `provenance`.
    The others are optional.
    """

    software: str
    """Tarball that holds `software/`."""
    module: str
    """Tarball that holds the module files."""
    sbom: str
    provenance: str
    """What it was made of, how and by whom (in-toto)."""
    checksums: str
    """For sha256sum(1)."""
    manifest: str
    verification: str
    """The record of its verification."""
    checksums_signature: str
    manifest_signature: str
    bundle: str
    """A signature by Sigstore."""

    @property
    def signatures(self) -> tuple[str, ...]:
        """Those that sign others."""
        return self.checksums_signature, self.manifest_signature, self.bundle


ENDINGS = FileNames(
    software=SOFTWARE_END,
    module="-module.tar.gz",
    sbom="-sbom.cdx.json",
    provenance="-provenance.json",
    checksums=CHECKSUMS_END,
    manifest=MANIFEST_END,
    verification=VERIFICATION_END,
    checksums_signature=f"{CHECKSUMS_END}{SIGNATURE_END}",
    manifest_signature=f"{MANIFEST_END}{SIGNATURE_END}",
    bundle=BUNDLE_END,
)
PACKAGE_END = re.compile(f"({'|'.join(map(re.escape, ENDINGS))})$")
"""The endings of the file names of a package."""


def file_names(stem: str) -> FileNames:
    """The names of the files of a package, which may be missing in part.

    Args:
        stem: Name of the package.
    """
    return FileNames(*(f"{stem}{end}" for end in ENDINGS))
