"""Holes of libraries: Debian's tracker, and OSV."""

import json
from pathlib import Path
from typing import Any

import pytest
from plan_samples import sample_settings
from reporter_samples import Listener

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch.trackers import Finding, Lookup, debian_tracker, osv


def state(status: str, **more: str) -> dict[str, Any]:
    return {"description": "x", "releases": {"bookworm": {"status": status, **more}}}


TRACKER = {
    "openssl": {
        "CVE-2026-1": state("resolved", fixed_version="3.0.20-1~deb12u2"),
        "CVE-2026-2": state("open", urgency="medium"),
        "CVE-2026-3": state("open", urgency="unimportant"),
        "CVE-2026-4": state("resolved", fixed_version="0"),
        "CVE-2026-5": state("undetermined"),
        "CVE-2026-6": {"releases": {"trixie": {"status": "open"}}},
    },
    "zlib": {"CVE-2026-7": state("resolved", fixed_version="1:1.2.13.dfsg-1+deb12u1")},
    "odd": {"CVE-2026-8": 1, "CVE-2026-9": {"releases": []}, "CVE-2026-10": {}},
    "odder": [],
    "oddest": {"CVE-2026-11": {"releases": {"bookworm": {"status": ["open"]}}}},
}


def tracker(tmp_path: Path, document: object = TRACKER) -> Lookup:
    path = tmp_path / "tracker.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    settings = sample_settings(tmp_path / "cache", debian_tracker=str(path))
    return debian_tracker("bookworm", settings, Listener())


@pytest.mark.parametrize(
    ("source", "version", "expected"),
    [
        (
            *("openssl", "3.0.20-1~deb12u1"),
            [Finding("CVE-2026-1", "3.0.20-1~deb12u2"), Finding("CVE-2026-2")],
        ),
        ("openssl", "3.0.20-1~deb12u2", [Finding("CVE-2026-2")]),
        ("openssl", "3.0.20-1", [Finding("CVE-2026-2")]),
        ("zlib", "1:1.2.13.dfsg-1", [Finding("CVE-2026-7", "1:1.2.13.dfsg-1+deb12u1")]),
        ("zlib", "not a version!", []),
        ("unknown", "1", []),
        ("odd", "1", []),
        ("odder", "1", []),
        ("oddest", "1", []),
    ],
)
def test_debian_compares_versions_as_dpkg_does(
    tmp_path: Path, source: str, version: str, expected: list[Finding]
) -> None:
    assert list(tracker(tmp_path)(source, version)) == expected


@pytest.mark.parametrize("text", ["", "[]", "1", "{", "\x00"])
def test_what_is_no_data_of_the_tracker_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"tracker\.json cannot be used"):
        tracker(tmp_path, text)


def record(**affected: Any) -> dict[str, Any]:
    package = {"ecosystem": "OSS-Fuzz", "name": "curl"}
    return {
        "id": "OSV-1",
        "aliases": ["GHSA-x", "CVE-2026-1"],
        "affected": [{"package": package, **affected}],
    }


def events(*pairs: tuple[str, str]) -> dict[str, Any]:
    return record(ranges=[{"type": "SEMVER", "events": [{kind: value} for kind, value in pairs]}])


def look_up(tmp_path: Path, document: object) -> Lookup:
    path = tmp_path / "osv.json"
    path.write_text(json.dumps(document))
    return osv(str(path), sample_settings(tmp_path / "cache"), Listener())


@pytest.mark.parametrize(
    ("document", "version", "expected"),
    [
        (events(("introduced", "0"), ("fixed", "8.9.1")), "8.9.0", "8.9.1"),
        (events(("introduced", "0"), ("fixed", "8.9.1")), "8.9.1", None),
        (events(("introduced", "0"), ("fixed", "8.9.1")), "8.10.0", None),
        (events(("introduced", "8.5.0"), ("fixed", "8.9.1")), "8.4.0", None),
        (events(("introduced", "8.5.0")), "8.6.0", ""),
        (events(("introduced", "0"), ("last_affected", "8.6.0")), "8.6.0", ""),
        (events(("introduced", "0"), ("last_affected", "8.6.0")), "8.6.1", None),
        (
            events(("introduced", "1"), ("fixed", "2"), ("introduced", "3"), ("fixed", "4")),
            *("3.5", "4"),
        ),
        (
            events(("introduced", "1"), ("fixed", "2"), ("introduced", "3"), ("fixed", "4")),
            *("2.5", None),
        ),
        (record(versions=["8.6.0"]), "8.6.0", ""),
        (record(versions=["8.6.0"]), "8.6.1", None),
        (record(ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}]), "8.6.1", None),
        (record(ranges=1), "8.6.1", None),
        (record(versions=5), "8.6.1", None),
        (record(versions="18.6.12"), "8.6.1", None),
        (events(("introduced", "0"), ("fixed", "3.0.1")), "1.1.1w", "3.0.1"),
        (events(("introduced", "0"), ("fixed", "1.1.1x")), "1.1.1w", "1.1.1x"),
        (events(("introduced", "0"), ("fixed", "1.1.1x")), "1.1.1x", None),
        (dict(record(versions=["8.6.0"]), withdrawn="2026-01-01T00:00:00Z"), "8.6.0", None),
    ],
)
def test_osv_ranges_count_as_its_schema_says(
    tmp_path: Path, document: dict[str, Any], version: str, expected: str | None
) -> None:
    for form in (document, [document], {"vulns": [document]}):
        found = look_up(tmp_path, form)("curl", version)
        assert found == (() if expected is None else (Finding("CVE-2026-1", expected),))
        assert look_up(tmp_path, form)("other", version) == ()


def test_releases_of_ubuntu_have_records_of_their_own(tmp_path: Path) -> None:
    # As in https://osv.dev/vulnerability/UBUNTU-CVE-2024-48943.
    events = [{"introduced": "0"}, {"fixed": "8.5.0-2ubuntu10.6"}]
    affected = [
        {
            "package": {"ecosystem": ecosystem, "name": "curl"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
            "versions": ["8.5.0-2ubuntu10.1"],
        }
        for ecosystem in (
            "Ubuntu:24.04:LTS",
            "Ubuntu:Pro:22.04:LTS",
            "Ubuntu:Pro:FIPS-updates:20.04:LTS",
            "Debian:13",
            "AlmaLinux:9",
            "PyPI",
        )
    ]
    path = tmp_path / "osv/cve/2026/1.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps({"id": "UBUNTU-CVE-2026-1", "upstream": ["CVE-2026-1"], "affected": affected})
    )
    settings = sample_settings(tmp_path / "cache")
    known = (Finding("CVE-2026-1", "8.5.0-2ubuntu10.6"),)
    for release, version, expected in [
        ("24.04", "8.5.0-2ubuntu10.1", known),
        ("24.04", "8.5.0-2ubuntu10.6", ()),
        ("24.04", "8.5.0-2ubuntu10.10", ()),
        ("22.04", "8.5.0-2ubuntu10~esm1", known),
        ("26.04", "8.5.0-2ubuntu10.1", ()),
        ("20.04", "8.5.0-2ubuntu10.1", ()),
        ("", "8.5.0-2ubuntu10.1", ()),
    ]:
        look_up = osv(str(tmp_path / "osv"), settings, Listener(), ubuntu=release)
        assert look_up("curl", version) == expected


def test_each_cve_of_a_record_is_found(tmp_path: Path) -> None:
    document = dict(record(versions=["1"]), aliases=["CVE-2026-1", "CVE-2026-2"])
    found = look_up(tmp_path, document)("curl", "1")
    assert [finding.id for finding in found] == ["CVE-2026-1", "CVE-2026-2"]
    odd: tuple[object, ...] = (None, 5, [])
    for aliases in odd:
        found = look_up(tmp_path, dict(document, aliases=aliases))("curl", "1")
        assert [finding.id for finding in found] == ["OSV-1"]


def test_answer_without_records_says_that_there_is_nothing(tmp_path: Path) -> None:
    assert look_up(tmp_path, {})("curl", "1") == ()


def test_directory_of_records_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "osv"
    directory.mkdir()
    for number in range(3):
        text = json.dumps(dict(record(versions=["1"]), aliases=[f"CVE-{number}"]))
        (directory / f"{number}.json").write_text(text)
    found = osv(str(directory), sample_settings(tmp_path / "cache"), Listener())("curl", "1")
    assert [finding.id for finding in found] == ["CVE-0", "CVE-1", "CVE-2"]


@pytest.mark.parametrize("document", [1, [1], [{}], {"vulns": 1}, {"id": 1}, "x"])
def test_what_is_no_record_of_osv_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(ConfigurationError, match="no records"):
        look_up(tmp_path, document)
