"""Known advisories: which releases they concern, and what users are told."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from packaging.version import Version
from plan_samples import sample_plan

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan import advisories as module
from slurm_factory.plan.advisories import (
    Advisory,
    advisories,
    is_supported,
    known_advisories,
    named,
    require_no_advisories,
    support_ends,
    suspected_advisories,
    warning_for,
    way_out,
)
from slurm_factory.plan.plan import SitePatch
from slurm_factory.plan.releases import catalog, find_release, series

TODAY = date(2026, 11, 28)
SEPTEMBER = {
    *("CVE-2026-65107", "CVE-2026-65108", "CVE-2026-65109", "CVE-2026-65138"),
    *("CVE-2026-65139", "CVE-2026-65140", "CVE-2026-65165", "CVE-2026-65168"),
}


def ids(found: tuple[Advisory, ...]) -> set[str]:
    return {each.id for each in found}


def test_newest_release_of_every_supported_series_has_no_fixed_advisory() -> None:
    for name in filter(lambda name: is_supported(name, datetime.now(UTC).date()), series()):
        newest = find_release(name)
        assert not [each for each in known_advisories(newest.release) if name in each.fixed]


def test_data_names_series_of_the_catalog_and_releases_that_are_in_them() -> None:
    assert len({each.id for each in advisories()}) == len(advisories())
    for each in advisories():
        assert {*each.affected, *each.suspected} <= set(series())
        assert not set(each.affected) & set(each.suspected)
        assert 0 < len(each.summary) <= 90
        assert not each.summary.endswith(".")
        assert each.source.startswith("https://")
        for name, release in each.fixed.items():
            assert release.startswith(f"{name}.")
            assert name in {*each.affected, *each.suspected}
            assert Version(release) <= Version(find_release(name).release)
    assert all(support_ends(name) for name in series())


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("23.11.0", {"CVE-2023-49933", "CVE-2023-49934"}),
        ("24.05.3", {"CVE-2024-48936", "CVE-2025-43904"}),
        ("24.11.4", {"CVE-2025-43904", *SEPTEMBER}),
        ("24.11.7", SEPTEMBER),
        ("25.11.7", SEPTEMBER),
    ],
)
def test_a_release_before_the_fix_has_the_advisory(release: str, expected: set[str]) -> None:
    assert expected <= ids(known_advisories(release))


@pytest.mark.parametrize(
    ("release", "fixed"),
    [
        ("23.11.1", "CVE-2023-49934"),
        ("23.11.11", "CVE-2025-43904"),
        ("24.11.5", "CVE-2025-43904"),
        ("25.05.0", "CVE-2025-43904"),
        ("25.11.8", "CVE-2026-65107"),
        ("26.05.4", "CVE-2026-65168"),
        ("26.11.0", "CVE-2026-65107"),
    ],
)
def test_a_release_with_the_fix_has_not(release: str, fixed: str) -> None:
    assert fixed not in ids(known_advisories(release))


def test_a_hole_that_nobody_has_confirmed_for_a_series_is_suspected_only() -> None:
    october = {"SCHEDMD-2026-10-13-1", "SCHEDMD-2026-10-13-2"}
    assert october <= ids(known_advisories("26.05.4"))
    assert not october & ids(known_advisories("26.05.5"))
    assert ids(suspected_advisories("25.11.8")) == october
    assert known_advisories("25.11.8") == ()


def test_backports_fix_all_that_is_known() -> None:
    for release in catalog():
        if release.backports:
            assert ids(known_advisories(release.release)) == set(release.backports.fixes)
            assert known_advisories(release.release, release.backports.fixes) == ()


@pytest.mark.parametrize(
    ("release", "today", "better"),
    [
        ("25.05.8", TODAY, "25.05.9"),
        ("26.05.0", TODAY, "26.05.5"),
        ("24.11.7", TODAY, "25.11.8"),
        ("23.02.8", TODAY, "25.11.8"),
        ("24.11.7", date(2027, 6, 1), "26.05.5"),
        ("24.11.7", date(2028, 1, 1), ""),
        ("23.11.5", TODAY, "25.11.8"),
        ("25.05.8", date(2026, 12, 1), "25.11.8"),
    ],
)
def test_way_out_is_in_the_same_series_or_the_next_that_is_maintained(
    release: str, today: date, better: str
) -> None:
    assert way_out(release, today) == better


def test_way_out_may_be_a_release_that_only_the_users_catalog_has() -> None:
    newer = find_release("26.05").model_copy(update={"release": "26.05.90"})
    assert way_out("26.05.0", TODAY, (*catalog(), newer)) == "26.05.90"


def test_warning_is_one_line_with_the_release_to_take() -> None:
    assert warning_for(sample_plan("26.05.5"), TODAY) == ""
    text = warning_for(sample_plan("25.05.8"), TODAY)
    assert text.startswith("Slurm 25.05.8 has 8 known advisories (CVE-2026-65168, CVE-2026-65165")
    assert text.endswith("; the release to build is 25.05.9.")
    assert "\n" not in text
    ended = warning_for(sample_plan("24.11.5"), TODAY)
    assert "24.11.5+deb13u1 may have 2 unconfirmed" in ended
    assert "support of 24.11 ended on 2026-05-31" in ended
    assert "known" not in ended.replace("unknown", "")


def test_strict_refuses_known_advisories_and_nothing_else() -> None:
    require_no_advisories(sample_plan("26.05.5"), TODAY)
    require_no_advisories(sample_plan("24.11.5"), TODAY)
    with pytest.raises(ConfigurationError) as caught:
        require_no_advisories(sample_plan("24.11.5", backports=False), TODAY)
    assert "has 8 known advisories" in caught.value.brief
    assert all(name in caught.value.details for name in SEPTEMBER)
    assert "25.11.8" in caught.value.resolution
    # Nobody knows what a site's own patch fixes.
    patch = SitePatch(Path("/srv/fix.patch"), b"x")
    with pytest.raises(ConfigurationError):
        require_no_advisories(sample_plan("25.11.7", patches=(patch,)), TODAY)


def test_one_advisory_is_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    one = advisories()[:1]
    monkeypatch.setattr(module, "advisories", lambda: one)
    assert "has a known advisory (CVE-2023-41914)" in warning_for(sample_plan("23.02.5"), TODAY)
    assert named(one) == "CVE-2023-41914"


def test_series_that_nothing_is_known_about_is_new() -> None:
    assert support_ends("26.11") is None
    assert is_supported("26.11", TODAY)
