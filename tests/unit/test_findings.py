"""What is known of finished packages."""

import json
from pathlib import Path

import pytest
from package_samples import CURL, ZLIB, make_manifest
from plan_samples import sample_settings
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.findings import Report, parse_advisory, report, select
from slurm_factory.package.manifest import File, SecurityStatus
from slurm_factory.package.publish import PublishedArtifact

FILES = (File(name="x", size=1, sha256="a" * 64),)


def artifact(**changes: object) -> PublishedArtifact:
    manifest = make_manifest(FILES).model_copy(update=changes)
    return PublishedArtifact(Path(f"/b/{manifest.identity.manifest}"), manifest, "")


def settings_with(tmp_path: Path, tracker: object) -> Settings:
    path = tmp_path / "tracker.json"
    path.write_text(json.dumps(tracker))
    return sample_settings(tmp_path / "cache", debian_tracker=str(path))


def looked_up(
    tmp_path: Path, found: PublishedArtifact, reporter: Listener, osv: str = ""
) -> Report:
    settings = settings_with(
        tmp_path, {"zlib": {"CVE-1": {"releases": {"bookworm": {"status": "open"}}}}}
    )
    (one,) = report([found], settings, reporter, look_up=True, osv=osv)
    return one


def test_libraries_are_grouped_by_their_source_package(tmp_path: Path) -> None:
    again = ZLIB.model_copy(update={"file": "lib/private/libz2.so.1"})
    rebuilt = CURL.model_copy(update={"package_version": f"{CURL.package_version}+b2"})
    found = artifact(bundled=(ZLIB, again, rebuilt))
    (one,) = report([found], sample_settings(tmp_path), Listener(), look_up=False)
    assert {(each.name, each.version, len(each.files)) for each in one.libraries} == {
        ("zlib", ZLIB.package_version, 2),
        (CURL.source_package or CURL.package, CURL.package_version, 1),
    }
    assert all(each.findings is None for each in one.libraries)


def test_libraries_of_debian_are_looked_up_in_its_tracker(tmp_path: Path) -> None:
    one = looked_up(tmp_path, artifact(bundled=(ZLIB, CURL)), Listener())
    assert one.has("CVE-1")
    assert not one.has_gaps
    assert not one.has("CVE-2")


def test_libraries_without_a_tracker_are_told(tmp_path: Path) -> None:
    reporter = Listener()
    identity = make_manifest(FILES).identity.model_copy(update={"base": "ubuntu@24.04"})
    one = looked_up(tmp_path, artifact(identity=identity, bundled=(ZLIB, CURL)), reporter)
    assert all(each.findings is None for each in one.libraries)
    assert len(reporter.warnings) == 1
    assert "ubuntu@24.04" in reporter.warnings[0]
    assert one.has_gaps


def test_libraries_of_ubuntu_are_looked_up_in_osv(tmp_path: Path) -> None:
    identity = make_manifest(FILES).identity.model_copy(update={"base": "ubuntu@24.04"})
    records = tmp_path / "osv.json"
    package = {"name": "zlib", "ecosystem": "Ubuntu:24.04:LTS"}
    affected = {"package": package, "versions": [ZLIB.package_version]}
    records.write_text(json.dumps({"id": "UBUNTU-CVE-2026-9", "affected": [affected]}))
    found = artifact(identity=identity, bundled=(ZLIB, CURL))
    one = looked_up(tmp_path, found, Listener(), str(records))
    assert one.has("CVE-2026-9")
    assert not one.has_gaps


def test_libraries_of_spack_are_looked_up_in_osv(tmp_path: Path) -> None:
    built = ZLIB.model_copy(update={"package_type": "generic", "source_package": None})
    reporter = Listener()
    assert looked_up(tmp_path, artifact(bundled=(built,)), reporter).libraries[0].findings is None
    assert "--osv" in reporter.warnings[0]
    records = tmp_path / "osv.json"
    affected = {"package": {"name": built.package}, "versions": [built.package_version]}
    records.write_text(json.dumps({"id": "CVE-9", "affected": [affected]}))
    assert looked_up(tmp_path, artifact(bundled=(built,)), reporter, str(records)).has("CVE-9")


def test_advisories_of_slurm_are_those_of_today_without_what_patches_fix(tmp_path: Path) -> None:
    (old,) = report([artifact()], sample_settings(tmp_path), Listener(), look_up=False)
    assert old.has("CVE-2026-65107")
    fixed = SecurityStatus(advisories=(), fixed=("CVE-2026-65107",), support_ends=None)
    found = artifact(security=fixed)
    (patched,) = report([found], sample_settings(tmp_path), Listener(), look_up=False)
    assert not patched.has("CVE-2026-65107")
    assert patched.has("CVE-2026-65108")


def test_advisories_that_nobody_has_confirmed_are_found_too(tmp_path: Path) -> None:
    (one,) = report([artifact()], sample_settings(tmp_path), Listener(), look_up=False)
    assert one.has("SCHEDMD-2026-10-13-1")
    assert not one.has_gaps


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ""), ("cve-2026-65107", "CVE-2026-65107"), (" GHSA-1a2b-x ", "GHSA-1A2B-X")],
)
def test_id_of_an_advisory_is_written_in_capitals(text: str, expected: str) -> None:
    assert parse_advisory(text) == expected


@pytest.mark.parametrize("text", ["typo", "CVE", "CVE-2026-1; x", "-"])
def test_id_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no id of an advisory"):
        parse_advisory(text)


def test_packages_are_chosen_by_name_and_path() -> None:
    found, broken = artifact(), PublishedArtifact(Path("/b/slurm-x-manifest.json"), None, "Cut.")
    stem = found.path.name.removesuffix("-manifest.json")
    for name in (stem, f"/b/{stem}", str(found.path)):
        assert select([found, broken], [name]) == [found]
    assert select([found, broken], []) == [found]
    with pytest.raises(ConfigurationError, match="no finished package") as caught:
        select([found], [stem[:-1]])
    assert stem in caught.value.details
    with pytest.raises(ConfigurationError, match="cannot be read"):
        select([found, broken], ["slurm-x"])
