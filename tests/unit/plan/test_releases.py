"""The catalog of releases, and what a version on the command line means."""

import json
import re
from datetime import date
from importlib.resources import files

import pytest

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.releases import catalog, find_release, series

SERIES = ("23.02", "23.11", "24.05", "24.11", "25.05", "25.11", "26.05")


def refusal(version: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        find_release(version)
    return caught.value


def test_catalog_holds_every_release_of_the_data_file() -> None:
    text = files("slurm_factory.resources").joinpath("releases.json").read_text("utf-8")
    rows = json.loads(text)["releases"]
    entries = [release.model_dump(mode="json", exclude_unset=True) for release in catalog()]
    assert entries == sorted(
        rows, key=lambda row: [int(part) for part in row["release"].split(".")]
    )


def test_all_series_are_there_oldest_first() -> None:
    assert series() == SERIES


def test_every_release_has_a_date_and_names_that_agree_and_a_good_checksum_if_any() -> None:
    for release in catalog():
        assert release.sha256 is None or re.fullmatch("[0-9a-f]{64}", release.sha256)
        assert release.size is None or release.size > 1_000_000
        assert re.fullmatch(r"\d{2}\.\d{2}\.\d+", release.release)
        assert release.release.startswith(f"{release.series}.")
        assert release.spack_version.startswith(release.release.replace(".", "-") + "-")
        assert release.tag == f"slurm-{release.spack_version}"
        assert release.url.endswith(
            f"/slurm-{release.release}.tar.bz2" if release.archive else f"/{release.tag}.tar.gz"
        )
        days = (date.fromisoformat(release.date) - date(1970, 1, 1)).days
        assert release.epoch == days * 86400


def test_no_two_releases_share_a_checksum() -> None:
    assert len({release.sha256 for release in catalog()}) == len(catalog())


@pytest.mark.parametrize("name", SERIES)
def test_a_series_means_its_newest_release_by_number_not_by_text(name: str) -> None:
    numbers = [int(r.release.rsplit(".", 1)[1]) for r in catalog() if r.series == name]
    assert find_release(name).release == f"{name}.{max(numbers)}"


def test_an_exact_release_means_that_release() -> None:
    assert find_release("23.11.1").release == "23.11.1"
    assert find_release("23.11.11").release == "23.11.11"


@pytest.mark.parametrize(
    ("version", "nearest"),
    [
        ("25.06", "25.05"),
        ("25.10", "25.11"),
        ("25.08", "25.11"),
        ("24.12", "24.11"),
        ("27.11", "26.05"),
        ("20.11", "23.02"),
        ("22.05.3", "23.02"),
        ("25.06.1", "25.05"),
        ("25.05.99", find_release("25.05").release),
        ("25.05.", find_release("25.05").release),
        ("25.05.8 ", "25.05.8"),
        ("25.5", "25.05"),
        ("25-05-8-1", "25.05.8"),
        ("slurm-25-05-3-1", "25.05.3"),
        ("v25.05.3", "25.05.3"),
        ("25.05.3-1", "25.05.3"),
        ("v25.06", "25.05"),
        ("slurm-24-11", find_release("24.11").release),
        ("24", "24.11"),
        ("24.1", "24.11"),
        ("2405", "24.05"),
        ("24.11.05", "24.11.5"),
        ("24.11.99", find_release("24.11").release),
        ("lates", "latest"),
        ("", "26.05"),
        ("٢٥.٠٥", "26.05"),
    ],
)
def test_an_unknown_release_is_refused_with_the_nearest_one(version: str, nearest: str) -> None:
    error = refusal(version)
    assert repr(version) in error.brief
    assert error.details == f"The nearest is {nearest}."
    assert find_release(nearest)
    assert "slurm-factory versions" in error.resolution


def test_a_very_long_version_does_not_fill_the_screen() -> None:
    assert len(str(refusal("25.05." + "9" * 100_000))) < 300


def test_latest_is_the_newest_release_of_all() -> None:
    assert find_release("latest") == catalog()[-1]
