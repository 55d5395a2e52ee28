"""The commands publish and fetch, as somebody types them."""

import json
from pathlib import Path
from typing import Any

import pytest
from store_samples import STEM, build, site
from typer.testing import CliRunner, Result

from slurm_factory.main import app


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty store; the cache directory has a package."""
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(tmp_path / "cache"))
    build(site(tmp_path))
    return f"file://{tmp_path}/store"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def document(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_package_is_published_listed_and_fetched(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = document("publish", STEM, store)
    assert [each["identity"]["stem"] for each in published["published"]] == [STEM]
    assert [p["identity"]["stem"] for p in document("publish", STEM, store)["unchanged"]] == [STEM]
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(tmp_path / "other"))
    [listed] = document("fetch", "--list", store)["packages"]
    assert (listed["glibc"], listed["identity"]["arch"]) == ("2.36", "x86_64")
    assert {"CVE-2026-65168"} <= {*listed["advisories_now"]}
    fetched = document("fetch", STEM, store)
    assert not fetched["up_to_date"]
    assert Path(fetched["manifest_path"]).is_file()
    assert document("fetch", STEM, store)["up_to_date"]
    assert [each["state"] for each in document("list")["builds"]] == ["complete"]


def test_tables_name_the_packages(store: str) -> None:
    assert run("publish", STEM, store).exit_code == 0
    shown = run("fetch", "--list", store)
    assert STEM in shown.stdout
    assert "vulnerable: CVE-" in shown.stdout
    assert f"{STEM} is up to date." in run("fetch", STEM, store).stdout


def test_store_of_the_settings_needs_no_url(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_FACTORY_STORE", store)
    assert document("publish", STEM)["store"] == store
    assert len(document("fetch", "--list")["packages"]) == 1
    assert document("fetch", STEM)["up_to_date"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("publish", STEM), "No store is named"),
        (("publish", "file:///x"), "needs packages, and one URL"),
        (("publish", STEM, "file:///x", "file:///y"), "needs packages, and one URL"),
        (("publish", "slurm-26.05", "file:///x"), "no finished package"),
        (("publish", STEM, "https://host/x"), "Nothing can be published"),
        (("fetch",), "needs the name"),
        (("fetch", STEM, "file:///x", "--list"), "needs the name"),
        (("fetch", STEM), "No store is named"),
        (("fetch", STEM, "gopher://x"), "is no URL of a store"),
        (("fetch", STEM, "file:///x", "--gpu", "--minimal"), "exclude each other"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_clear_message(
    store: str, arguments: tuple[str, ...], said: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) <= 3
