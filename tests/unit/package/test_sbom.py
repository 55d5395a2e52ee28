"""Scanners must be able to read the list of contents, and find the same every time."""

import json
from pathlib import Path
from typing import Any

import pytest
from package_samples import CURL, IDENTITY, SOURCE, ZLIB

from slurm_factory.exceptions import OutputError
from slurm_factory.package.manifest import AppliedPatch, BundledFile
from slurm_factory.package.sbom import SlurmSource, write_sbom

LICENSE = "GPL, with an exception for OpenSSL\n"
PATCHES = (
    AppliedPatch(name="own.patch", origin="slurm-factory", sha256="a" * 64),
    AppliedPatch(name="deb13u1-01-x.patch", origin="deb13u1", sha256="b" * 64, fixes=("CVE-1",)),
)
SLURM = SlurmSource(SOURCE, PATCHES, LICENSE)


def sbom(directory: Path, *libraries: BundledFile) -> dict[str, Any]:
    path = write_sbom(IDENTITY, SLURM, libraries or (CURL, ZLIB), directory)
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_document_follows_the_cyclonedx_schema(tmp_path: Path) -> None:
    # Here, because each process of a test run would wait seconds for the grammars in it.
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    text = json.dumps(sbom(tmp_path))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_same_contents_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    first = write_sbom(IDENTITY, SLURM, (CURL, ZLIB), tmp_path).read_bytes()
    second = write_sbom(IDENTITY, SLURM, (ZLIB, CURL), tmp_path).read_bytes()
    assert first == second


def test_other_contents_have_another_serial_number(tmp_path: Path) -> None:
    patched = ZLIB.model_copy(update={"sha256": "3" * 64})
    serials = {
        sbom(tmp_path)["serialNumber"],
        sbom(tmp_path, CURL, patched)["serialNumber"],
    }
    assert len(serials) == 2


def test_slurm_is_named_with_its_source_and_license(tmp_path: Path) -> None:
    metadata = sbom(tmp_path)["metadata"]
    slurm = metadata["component"]
    assert metadata["timestamp"] == "2025-05-07T00:00:00+00:00"
    assert (slurm["name"], slurm["version"]) == ("slurm", "24.11.5")
    assert slurm["purl"] == "pkg:github/schedmd/slurm@slurm-24-11-5-1"
    assert slurm["licenses"][0]["license"]["text"]["content"] == LICENSE
    (reference,) = slurm["externalReferences"]
    assert reference["url"] == SOURCE.url
    assert reference["hashes"] == [{"alg": "SHA-256", "content": SOURCE.sha256}]


def test_patches_are_the_pedigree_of_slurm(tmp_path: Path) -> None:
    slurm = sbom(tmp_path)["metadata"]["component"]
    assert sorted(slurm["pedigree"]["patches"], key=lambda patch: patch["type"]) == [
        {
            "type": "backport",
            "diff": {"url": "deb13u1-01-x.patch"},
            "resolves": [{"type": "security", "id": "CVE-1"}],
        },
        {"type": "unofficial", "diff": {"url": "own.patch"}},
    ]
    told = {entry["value"] for entry in slurm["properties"]}
    assert told == {f"{patch.name} {patch.origin} {patch.sha256}" for patch in PATCHES}


def test_bundled_library_is_found_by_its_distribution_package(tmp_path: Path) -> None:
    component = next(c for c in sbom(tmp_path)["components"] if c["bom-ref"] == ZLIB.file)
    assert (component["name"], component["version"]) == ("zlib1g", "1:1.2.13.dfsg-1")
    assert component["purl"] == (
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12&upstream=zlib"
    )
    assert component["hashes"] == [{"alg": "SHA-256", "content": ZLIB.sha256}]
    properties = {entry["name"]: entry["value"] for entry in component["properties"]}
    assert properties == {"slurm-factory:file": ZLIB.file, "slurm-factory:soname": "libz.so.1"}


def test_who_needs_what_is_kept(tmp_path: Path) -> None:
    edges = {entry["ref"]: entry.get("dependsOn", []) for entry in sbom(tmp_path)["dependencies"]}
    assert edges[IDENTITY.stem] == sorted((CURL.file, ZLIB.file))
    assert edges[CURL.file] == [ZLIB.file]
    assert edges[ZLIB.file] == []


def test_directory_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        write_sbom(IDENTITY, SLURM, (), tmp_path / "file")
