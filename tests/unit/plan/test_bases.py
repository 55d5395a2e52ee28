"""Bases: names, the one this machine runs, and what is said about unknown ones."""

import re

import pytest

from slurm_factory.constants import DEFAULT_BASE
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.bases import bases, find_base, host_release

HOST = ("debian", "12")
NAMES = ("ubuntu@24.04", "ubuntu@26.04", "ubuntu@22.04", "debian@12", "debian@13")


def refusal(name: str, host: tuple[str, str] = HOST) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        find_base(name, host)
    return caught.value


def test_all_bases_of_the_contract_are_there() -> None:
    assert tuple(base.name for base in bases()) == NAMES
    assert DEFAULT_BASE == "ubuntu@24.04"


@pytest.mark.parametrize("name", NAMES)
def test_a_base_has_parts_that_agree_and_a_slug_fit_for_instance_names(name: str) -> None:
    base = find_base(name, HOST)
    assert base.name == f"{base.distribution}@{base.version}"
    assert re.fullmatch("[a-z]+-[0-9.]+", base.slug)
    assert re.fullmatch(r"2\.[0-9]+", base.glibc)
    assert base.archive.suites[0] == base.codename
    security = base.archive.security.suites if base.archive.security else base.archive.suites
    assert f"{base.codename}-security" in security


@pytest.mark.parametrize("name", NAMES)
def test_same_means_the_release_of_this_machine_under_its_real_name(name: str) -> None:
    distribution, version = name.split("@")
    assert find_base("same", (distribution, version)).name == name


def test_same_is_refused_on_a_machine_that_is_not_a_base_and_its_release_is_named() -> None:
    error = refusal("same", ("fedora", "42"))
    assert "fedora@42" in error.brief
    assert "--base same" in error.brief
    assert "--base ubuntu@24.04" in error.resolution


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ubuntu@24.4", "ubuntu@24.04"),
        ("debian12", "debian@12"),
        ("debian@14", "debian@13"),
        ("debian@11", "debian@12"),
        ("ubuntu@20.04", "ubuntu@22.04"),
        ("debian@bookworm", "debian@12"),
        ("Debian@12", "debian@12"),
        ("sam", "same"),
    ],
)
def test_an_unknown_base_is_refused_with_the_nearest_one(name: str, near: str) -> None:
    error = refusal(name)
    assert name in error.brief
    assert error.details == f"Did you mean {near}?"
    assert error.resolution.endswith(f"--base {near}.")
    assert find_base(near, HOST)


def test_a_base_like_no_other_is_refused_with_the_list() -> None:
    error = refusal("; rm -rf /")
    assert error.details == f"Bases are {', '.join(NAMES)}, same."


def test_a_machine_without_os_release_is_nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise FileNotFoundError

    monkeypatch.setattr("platform.freedesktop_os_release", missing)
    assert host_release() == ("unknown", "unknown")


def test_a_rolling_distribution_without_a_version_is_distinguished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "arch"})
    assert host_release() == ("arch", "unknown")
    assert "arch@unknown" in refusal("same", host_release()).brief
