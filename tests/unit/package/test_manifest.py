"""Manifests must be read as they were written, or be rejected with a reason."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from package_samples import make_manifest
from pydantic import ValidationError

from slurm_factory.exceptions import OutputError
from slurm_factory.package.distributions import distributions_with
from slurm_factory.package.manifest import (
    File,
    Manifest,
    Verified,
    load_manifest,
    write_manifest,
)

FILE = File(name="slurm-24.11-software.tar.gz", size=1, sha256="0" * 64)
VERIFIED = Verified(at=datetime(2026, 11, 28, tzinfo=UTC), on=("Debian 13",), record=FILE)


@pytest.mark.parametrize("verified", [False, VERIFIED])
def test_manifest_comes_back_as_it_was_written(tmp_path: Path, verified: Verified | bool) -> None:
    manifest = Manifest.model_validate(make_manifest((FILE,)).model_dump() | {"verified": verified})
    path = write_manifest(manifest, tmp_path)
    assert path.name == "slurm-24.11-debian-12-system-manifest.json"
    assert load_manifest(path) == manifest
    assert json.loads(path.read_text())["manifest_version"] == 1


def test_manifest_counts_files_of_slurm_and_bundled_ones_by_figure(tmp_path: Path) -> None:
    path = write_manifest(make_manifest((FILE,)), tmp_path)
    hardening = json.loads(path.read_text())["hardening"]
    assert hardening["slurm"]["pie"] == {"have": 1, "of": 1}
    assert hardening["bundled"]["relro_full"] == {"have": 1, "of": 2}
    assert hardening["bundled"]["canary"] == {"have": 0, "of": 1}


def test_manifest_from_before_hardening_was_counted_is_still_one(tmp_path: Path) -> None:
    path = write_manifest(make_manifest((FILE,)), tmp_path)
    document = json.loads(path.read_text())
    del document["hardening"]
    path.write_text(json.dumps(document))
    assert load_manifest(path).hardening == {}


def test_manifest_of_a_later_version_says_so_and_not_which_field_is_wrong(tmp_path: Path) -> None:
    path = write_manifest(make_manifest((FILE,)), tmp_path)
    document = json.loads(path.read_text()) | {"manifest_version": 2, "news": 1}
    path.write_text(json.dumps(document))
    with pytest.raises(OutputError, match="has version 2") as caught:
        load_manifest(path)
    assert "upgrade" in caught.value.resolution


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", '{"manifest_version": 1}', "\udcff"])
def test_what_is_not_a_manifest_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "with space" / "m.json"
    path.parent.mkdir()
    path.write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(OutputError, match="cannot be used") as caught:
        load_manifest(path)
    assert caught.value.resolution.endswith(f"rm '{path}'")


def test_missing_manifest_is_an_error_of_its_class(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        load_manifest(tmp_path / "none")


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".."])
def test_manifest_cannot_name_files_outside_its_directory(name: str) -> None:
    with pytest.raises(ValidationError):
        File(name=name, size=1, sha256="0" * 64)


def test_glibc_versions_are_compared_as_numbers_and_equal_ones_count() -> None:
    assert "Debian 12" in distributions_with("2.36")
    assert "Debian 11" not in distributions_with("2.36")
    assert "Ubuntu 22.04" not in distributions_with("2.36")
    assert "Debian 11" in distributions_with("2.4")
