"""The command line: exit codes, messages, and documents on stdout."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_samples import make_package
from fake_lxc import DEAD, PROJECT, FakeLxc, install_fake_lxc, instance, locked_elsewhere
from git_samples import META, head, make_repository, served
from interrupts import interrupt_a_wait
from package_samples import IDENTITY, make_manifest, publish_package, stage
from plan_samples import sample_settings
from typer.testing import CliRunner

from slurm_factory import __version__, completion, exceptions, up_to_date
from slurm_factory import main as command_line
from slurm_factory.config import Settings
from slurm_factory.constants import JSON_VERSION, BuildType, Deps
from slurm_factory.exceptions import SlurmFactoryError
from slurm_factory.host import doctor
from slurm_factory.host.checks import Check, Status
from slurm_factory.main import app
from slurm_factory.package.manifest import File, load_manifest, write_manifest
from slurm_factory.package.publish import describe, publish
from slurm_factory.plan.architectures import ARCHITECTURES
from slurm_factory.plan.bases import bases
from slurm_factory.plan.features import table
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.plan.releases import catalog, series
from slurm_factory.prefetch import Failure, Prefetched
from slurm_factory.up_to_date import Outcome
from slurm_factory.util.signals import HELD
from slurm_factory.workspace import prepare_cache

PATIENCE = 300
"""Seconds after which a program that should end counts as one that does not."""
COMMANDS = (
    "build",
    "clean",
    "deploy",
    "doctor",
    "fetch",
    "list",
    "matrix",
    "prefetch",
    "publish",
    "reproduce",
    "settings",
    "setup",
    "show",
    "verify",
    "versions",
)
BUILD = ("build", "--slurm-version", "24.11", "--base", "debian@12", "--deps", "system")
HEAVY = (
    *("craft_providers", "cyclonedx", "dulwich", "elftools", "jinja2", "obstore", "oras"),
    *("packaging", "platformdirs", "pydantic", "pydantic_settings", "pylxd", "requests", "rich"),
    *("tenacity", "yaml"),
)
LIGHT = (
    *("slurm_factory.__main__", "slurm_factory.completion", "slurm_factory.constants"),
    *("slurm_factory.exceptions", "slurm_factory.main", "slurm_factory.options"),
    "slurm_factory.farm_commands",
    "slurm_factory.session",
    "slurm_factory.output",
    *(
        "slurm_factory.output.text",
        "slurm_factory.output.stream",
        "slurm_factory.package",
        "slurm_factory.package.file_names",
        "slurm_factory.resources",
        "slurm_factory.util",
    ),
    *("slurm_factory.util.search_path", "slurm_factory.util.signals", "slurm_factory.usage"),
)
"""Modules that --help and completion may load."""


def complete(*words: str) -> dict[str, str]:
    """What bash says when the Tab key is pressed after `words`."""
    return {
        "_SLURM_FACTORY_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(("slurm-factory", *words)),
        "COMP_CWORD": str(len(words)),
    }


@dataclass(frozen=True)
class Result:
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Runner":
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(tmp_path / "cache"))
    return Runner(monkeypatch)


class Runner:
    """Runs the program in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str) -> Result:
        self._monkeypatch.setattr(sys, "argv", ["slurm-factory", *arguments])
        result = CliRunner().invoke(app, arguments, catch_exceptions=True)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)


def error_classes() -> list[type[SlurmFactoryError]]:
    members = vars(exceptions).values()
    return [m for m in members if isinstance(m, type) and issubclass(m, SlurmFactoryError)]


def published(builds: Path, scratch: Path) -> Path:
    return publish(stage(scratch), builds / "24.11")


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", error_classes())
def test_every_error_becomes_its_exit_code_and_three_lines(
    run: Runner, monkeypatch: pytest.MonkeyPatch, kind: type[SlurmFactoryError]
) -> None:
    def fail(*_: object) -> None:
        raise kind("What.", details="Why.", resolution="Do.")

    monkeypatch.setattr("slurm_factory.up_to_date.find_up_to_date", fail)
    result = run(*BUILD, "--quiet")
    assert result.code == kind.exit_code
    assert [line.strip() for line in result.err.splitlines()] == ["Error: What.", "Why.", "Do."]
    assert result.out == ""


@pytest.mark.parametrize("kind", error_classes())
def test_every_error_is_a_json_document_where_one_was_asked_for(
    run: Runner, monkeypatch: pytest.MonkeyPatch, kind: type[SlurmFactoryError]
) -> None:
    def fail(*_: object) -> None:
        raise kind("No https://me:secret@host/x", details="Why.", resolution="Do.")

    monkeypatch.setattr("slurm_factory.up_to_date.find_up_to_date", fail)
    result = run(*BUILD, "--json")
    assert result.code == kind.exit_code
    assert result.document == {
        "version": JSON_VERSION,
        "error": {
            "kind": kind.__name__,
            "exit_code": kind.exit_code,
            "brief": "No https://***@host/x",
            "details": "Why.",
            "resolution": "Do.",
        },
    }
    assert "secret" not in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--slurm-version", "25.06"), "25.05"),
        (("--slurm-version", "25.05", "--gpu", "--minimal"), "--gpu and --minimal"),
        (("--slurm-version", "25.05", "--base", "debian@11"), "debian@1"),
        (("--slurm-version", "25.05", "--additional-variants", "+hdf5; rm -rf /"), "+hdf5;"),
        (("--slurm-version", "25.05", "--additional-variants", "$(id)"), "$(id)"),
        (("--slurm-version", "25.05", "--deps", "conda"), "conda"),
    ],
)
def test_bad_input_of_build_is_one_clear_message_and_exit_code_2(
    run: Runner, arguments: tuple[str, ...], said: str
) -> None:
    result = run("build", "--deps", "system", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert len(result.err.splitlines()) <= 3


def test_malformed_toml_is_one_clear_message_and_exit_code_2(run: Runner) -> None:
    path = Path.home() / ".config/slurm-factory/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("cpu_limit = = 3")
    for command in (("versions",), ("list", "--json"), ("doctor",), BUILD):
        result = run(*command)
        assert result.code == 2
        assert str(path) in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("build",),
        ("build", "--slurm-version"),
        ("build", "--slurm-version", "25.05", "--jobs", "0"),
        ("build", "--slurm-version", "25.05", "--jobs", "many"),
        ("build", "--slurm-version", "25.05", "--no-such-option"),
        ("no-such-command",),
        ("--no-such-option",),
        ("versions", "surplus"),
        ("--project-name",),
        ("-v",),
        ("-q",),
        ("--project-name", "x"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_no_traceback(
    run: Runner, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Error: " in result.err
    assert "Traceback" not in result.err


def test_the_project_of_the_command_line_is_checked_as_any_setting(run: Runner) -> None:
    result = run("--project-name", "a b", "list")
    assert result.code == 2
    assert "project_name" in result.err
    assert "Correct --project-name." in result.err


def test_a_variable_that_is_not_a_setting_is_warned_of_with_the_nearest_name(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_MEMORYLIMIT", "8GiB")
    result = run("versions", "--json")
    assert result.code == 0
    assert result.document["releases"]
    assert "SLURM_FACTORY_MEMORYLIMIT, which is not a setting" in result.err
    assert "did you mean SLURM_FACTORY_MEMORY_LIMIT?" in result.err


def test_a_build_on_this_machine_below_a_path_with_a_blank_is_exit_code_2(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("slurm_factory.plan.bases.host_release", lambda: ("debian", "12"))
    assert run(*BUILD, "--destructive-mode", "--dry-run").code == 0
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(tmp_path / "a b"))
    result = run(*BUILD, "--destructive-mode", "--dry-run")
    assert (result.code, "a b" in result.err) == (2, True)
    assert run(*BUILD, "--dry-run").code == 0


# --- the default recipe -------------------------------------------------------------------------


def test_a_dry_run_of_the_default_recipe_prints_the_environment_that_spack_gets(
    run: Runner,
) -> None:
    plan = ("--slurm-version", "25.05", "--dry-run", "--additional-variants", "+hdf5")
    result = run("build", *plan, "--quiet")
    assert (result.code, result.err) == (0, "")
    document = yaml.safe_load(result.out[result.out.index("spack:") :])
    assert "+hdf5" in document["spack"]["specs"][0]
    assert "compiled for: glibc 2.28, x86_64_v2\n" in result.out
    as_json = run("build", "--slurm-version", "25.05", "--dry-run", "--json").document["plan"]
    assert yaml.safe_load(as_json["spack_yaml"])["spack"]["view"]
    assert as_json["deps"] == "spack"


def test_building_on_the_machine_itself_with_spack_is_refused_with_the_command_that_works(
    run: Runner,
) -> None:
    result = run("build", "--slurm-version", "25.05", "--destructive-mode")
    assert (result.code, result.out) == (2, "")
    _, *told = shlex.split(result.err.splitlines()[-1].partition("run: ")[2])
    assert told[-2:] == ["--deps", "system"]
    assert run(*told, "--dry-run").code in {0, 2}


def test_glibc_comes_from_the_command_line_or_the_settings(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ("build", "--slurm-version", "25.05", "--dry-run", "--json")
    monkeypatch.setenv("SLURM_FACTORY_GLIBC", "2.34")
    assert run(*plan).document["plan"]["glibc"] == "2.34"
    assert run(*plan, "--glibc", "base").document["plan"]["glibc"] is None
    assert run(*plan, "--deps", "system").document["plan"]["glibc"] is None
    assert run(*plan, "--deps", "system", "--glibc", "2.28").code == 2
    assert run(*plan, "--glibc", "1.0").code == 2
    monkeypatch.setenv("SLURM_FACTORY_GLIBC", "new")
    assert run(*plan).code == 2


# --- without a network --------------------------------------------------------------------------


def prefetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *failures: Failure
) -> list[BuildPlan]:
    """Let prefetch end with a file of 1234 bytes and `failures`; the plans that it was given."""
    given: list[BuildPlan] = []
    (tmp_path / "lz4.tar.gz").write_bytes(bytes(1234))

    def fetch(plans: list[BuildPlan], settings: Settings, _: object) -> Prefetched:
        given.extend(plans)
        return Prefetched(settings.cache_dir, (tmp_path / "lz4.tar.gz",), failures)

    monkeypatch.setattr("slurm_factory.prefetch.prefetch", fetch)
    return given


def test_prefetch_shows_how_much_there_is_and_which_directory_to_copy(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = prefetched(monkeypatch, tmp_path)
    plan = ("--slurm-version", "25.05", "--minimal", "--base", "debian@13")
    result = run("prefetch", *plan)
    assert (result.code, result.err) == (0, "")
    (line,) = result.out.splitlines()
    assert line.startswith(f"1 files, 1.2 kB, are in {tmp_path}/cache: copy it ")
    document = run("prefetch", *plan, "--json").document
    assert document == {
        "version": JSON_VERSION,
        "plans": ["slurm-25.05-minimal-debian-13"],
        "directory": f"{tmp_path}/cache",
        "files": 1,
        "size": 1234,
        "failures": [],
    }
    assert [plan.stem for plan in given] == ["slurm-25.05-minimal-debian-13"] * 2


def test_prefetch_of_all_takes_every_series_and_type_for_either_recipe(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = prefetched(monkeypatch, tmp_path)
    assert run("prefetch", "--all").code == 0
    assert len({plan.stem for plan in given}) == len(series()) * 3
    assert all(plan.spack for plan in given)
    assert run("prefetch", "--all", "--deps", "system").code == 0
    assert not given[-1].spack


def test_prefetch_of_a_source_lets_a_build_of_it_do_without_a_network(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = prefetched(monkeypatch, tmp_path)
    files = {"META": META.format(version="25.11.7", release="1")}
    patch = tmp_path / "site.patch"
    patch.write_text("--- a/x\n+++ b/x\n")
    fork = make_repository(tmp_path / "fork", files)
    with served(fork) as server:
        plan = ("--source", f"git+{server.url}@develop", "--deps", "system", "--patch", str(patch))
        build = ("build", *plan, "--offline", "--dry-run")
        assert run(*build).code == 4
        assert run("prefetch", *plan).code == 0
    assert run(*build).code == 0
    assert given[0].release.commit == head(fork)
    assert [each.name for each in given[0].site_patches] == ["site.patch"]
    assert run("prefetch", "--all", *plan).code == 2
    assert run("prefetch", "--patch", str(patch)).code == 2


def test_prefetch_without_backports_does_not_fetch_them(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = prefetched(monkeypatch, tmp_path)
    run("prefetch", "--slurm-version", "24.11.5")
    run("prefetch", "--slurm-version", "24.11.5", "--no-backports")
    assert [plan.backports is not None for plan in given] == [True, False]


def test_what_prefetch_could_not_fetch_is_named_and_the_first_of_it_is_the_exit_code(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failures = (
        Failure("slurm-25.05", exceptions.DownloadError("No lz4.", details="http://u:p@h/x: 404")),
        Failure("slurm-24.11", exceptions.SpackError("No way.", resolution="Try without.")),
    )
    prefetched(monkeypatch, tmp_path, *failures)
    result = run("prefetch", "--all")
    assert result.code == 4
    assert "slurm-25.05: No lz4." in result.err
    assert "slurm-24.11: No way." in result.err
    assert "Error: No lz4." in result.err
    assert "some files are missing" in result.out
    as_json = run("prefetch", "--all", "--json")
    assert as_json.code == 4
    assert [(f["what"], f["exit_code"]) for f in as_json.document["failures"]] == [
        *(("slurm-25.05", 4), ("slurm-24.11", 5)),
    ]
    assert "u:p" not in as_json.out + result.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all", "--slurm-version", "25.05"),
        ("--all", "--gpu"),
        ("--all", "--minimal"),
        ("--slurm-version", "25.05", "--gpu", "--minimal"),
        ("--slurm-version", "25.06"),
        ("--all", "--deps", "conda"),
    ],
)
def test_bad_input_of_prefetch_is_one_clear_message_and_exit_code_2(
    run: Runner, arguments: tuple[str, ...]
) -> None:
    result = run("prefetch", *arguments)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) <= 3


def test_build_hands_offline_on(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    def build(*_: object, offline: bool, **__: object) -> None:
        told.append(offline)
        raise exceptions.DownloadError("Missing.")

    monkeypatch.setattr("slurm_factory.builder.build", build)
    assert run(*BUILD, "--offline").code == 4
    assert run(*BUILD).code == 4
    assert told == [True, False]


def test_an_offline_build_and_prefetch_plan_without_what_is_elsewhere(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a plan names is in the manifest and decides what Spack chooses."""
    monkeypatch.setenv("SLURM_FACTORY_SPACK_BUILDCACHES", "https://b.example/cache")
    monkeypatch.setenv("SLURM_FACTORY_SOURCE_MIRRORS", "https://m.example/sources")
    plans = prefetched(monkeypatch, tmp_path)

    def build(plan: BuildPlan, *_: object, **__: object) -> None:
        plans.append(plan)
        raise exceptions.DownloadError("Missing.")

    monkeypatch.setattr("slurm_factory.builder.build", build)
    asked = ("--slurm-version", "25.05")
    run("prefetch", *asked)
    run("build", *asked, "--offline")
    run("build", *asked)
    named = [plan.spack.buildcaches + plan.spack.source_mirrors for plan in plans if plan.spack]
    assert named == [(), (), ("https://b.example/cache", "https://m.example/sources")]


def test_offline_what_was_built_with_the_build_caches_of_the_settings_is_up_to_date(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_SPACK_BUILDCACHES", "https://b.example/cache")
    looked: list[tuple[str, ...]] = []

    def find(plan: BuildPlan, _: object) -> None:
        assert plan.spack
        looked.append(plan.spack.buildcaches)

    def build(*_: object, **__: object) -> None:
        raise exceptions.DownloadError("Missing.")

    monkeypatch.setattr("slurm_factory.up_to_date.find_up_to_date", find)
    monkeypatch.setattr("slurm_factory.builder.build", build)
    run("build", "--slurm-version", "25.05", "--offline")
    assert looked == [(), ("https://b.example/cache",)]
    run("build", "--slurm-version", "25.05")
    assert looked[2:] == [("https://b.example/cache",)]


# --- advisories and patches ---------------------------------------------------------------------


def test_a_release_with_known_advisories_is_built_with_a_warning(run: Runner) -> None:
    result = run(*BUILD, "--dry-run")
    assert result.code == 0
    assert "Warning: Slurm 24.11.7 has 8 known advisories" in result.err


def test_a_release_with_known_advisories_is_refused_on_demand(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = run(*BUILD, "--dry-run", "--strict")
    assert (strict.code, "CVE-2026-65107" in strict.err) == (2, True)
    monkeypatch.setenv("SLURM_FACTORY_REFUSE_VULNERABLE", "1")
    assert run(*BUILD, "--dry-run").code == 2
    fixed = ("build", "--slurm-version", "24.11.5", "--dry-run", "--json")
    assert run(*fixed).document["plan"]["stem"] == "slurm-24.11.5+deb13u1"
    assert run(*fixed, "--no-backports").code == 2


def test_the_checksum_of_the_user_reaches_the_build(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[str | None] = []

    def build(plan: BuildPlan, *_: object, **__: object) -> None:
        sums.append(plan.release.sha256)
        raise exceptions.DownloadError("Missing.")

    monkeypatch.setattr("slurm_factory.builder.build", build)
    for release in catalog():
        if release.sha256 is None:
            assert run("build", "--slurm-version", release.release, "--sha256", "a" * 64).code == 4
    assert set(sums) <= {"a" * 64}
    assert run(*BUILD, "--sha256", "a" * 64).code == 2


def test_patches_of_the_user_are_in_the_plan_and_mistakes_in_them_are_refused(
    run: Runner, tmp_path: Path
) -> None:
    patch = tmp_path / "site.patch"
    patch.write_text("--- a/x\n+++ b/x\n")
    plan = ("build", "--slurm-version", "25.11", "--dry-run", "--patch", str(patch))
    document = run(*plan, "--suffix", "site1", "--json").document["plan"]
    assert document["stem"] == "slurm-25.11+site1"
    assert [row["name"] for row in document["site_patches"]] == ["site.patch"]
    assert "site patches: site.patch" in run(*plan).out
    assert run(*plan, "--suffix", "Site 1").code == 2
    assert run(*plan, "--patch", str(tmp_path / "missing")).code == 2


def test_source_of_the_user_decides_which_release_is_built(run: Runner, tmp_path: Path) -> None:
    files = {"META": META.format(version="25.11.7", release="1")}
    fork = make_repository(tmp_path / "fork", files)
    plan = ("build", "--source", f"git+file://{fork}@develop", "--deps", "system", "--dry-run")
    document = run(*plan, "--json").document["plan"]
    assert document["release"]["commit"] == head(fork)
    assert document["stem"].startswith(f"slurm-25.11.7+g{head(fork)[:7]}-")
    wrong = run(*plan, "--slurm-version", "25.05")
    assert (wrong.code, "not 25.05" in wrong.err) == (2, True)
    assert run("build").code == 2
    assert run("build", "--source", str(tmp_path / "missing")).code == 2


def test_series_that_the_catalog_does_not_know_is_tried_with_a_warning(
    run: Runner, tmp_path: Path
) -> None:
    fork = make_repository(tmp_path / "fork", {"META": META.format(version="49.05.0", release="1")})
    result = run("build", "--source", str(fork), "--deps", "system", "--dry-run")
    assert result.code == 0
    assert f"the patches and features of {series()[-1]} are tried" in result.err


def test_show_tells_which_packages_have_an_advisory(run: Runner, tmp_path: Path) -> None:
    path = published(tmp_path / "cache/builds", tmp_path / "staged")
    stem = path.name.removesuffix("-manifest.json")
    text = run("show", stem).out
    assert "8 known advisories" in text
    assert "CVE-2026-65107: " in text
    (facts,) = run("show", "--json").document["packages"]
    assert facts["manifest_path"] == str(path)
    assert len(facts["advisories"]) == 8
    assert stem in run("show", "--advisory", "CVE-2026-65107").out
    fixed = run("show", "--advisory", "CVE-2025-43904")
    assert (fixed.code, fixed.out) == (0, "No package has CVE-2025-43904.\n")
    assert run("show", f"{stem}x").code == 2


def test_show_takes_the_manifest_that_was_named_and_no_other_of_its_name(
    run: Runner, tmp_path: Path
) -> None:
    publish_package(tmp_path / "cache/builds/24.11", "24.11.5")
    elsewhere = publish_package(tmp_path / "elsewhere/24.11", "24.11.7")
    listed = str(elsewhere).removesuffix("-manifest.json")
    for word in (str(elsewhere), listed):
        (facts,) = run("show", word, "--json").document["packages"]
        assert facts["identity"]["release"] == "24.11.7"
    assert run("show", f"{tmp_path}/none/slurm-24.11").code == 2
    elsewhere.write_text("{")
    assert run("show", str(elsewhere)).code == 7


def test_show_compares_two_packages(run: Runner, tmp_path: Path) -> None:
    builds = tmp_path / "cache/builds"
    publish_package(builds / "24.11", "24.11.5", files={"bin/srun": 1000}, features=("munge",))
    publish_package(builds / "25.05", "25.05.8", files={"bin/srun": 3000}, features=("lua",))
    both = ("show", "--compare", "slurm-24.11", "slurm-25.05")
    text = run(*both).out
    assert re.search(r"Slurm +24\.11\.5 +25\.05\.8 +differs", text)
    assert "Features gained: lua\nFeatures lost: munge\n" in text
    assert re.search(r"bin/srun +1\.0 kB +3\.0 kB +\+2\.0 kB \(\+200%\)", text)
    assert "Components: 0 differ, 2 are the same." in text
    found = run(*both, "--json").document["comparison"]
    assert found["features"] == {
        "added": [{"name": "lua", "b": "lua"}],
        "removed": [{"name": "munge", "a": "munge"}],
        "changed": [],
    }
    assert {"name": "bin/srun", "a": 1000, "b": 3000} in found["files"]["changed"]
    assert found["b"]["identity"]["release"] == "25.05.8"


def test_a_comparison_says_what_it_does_not_know(run: Runner, tmp_path: Path) -> None:
    manifest = publish_package(tmp_path / "cache/builds/24.11", "24.11.5")
    tarball = manifest.with_name("slurm-24.11-software.tar.gz").rename(tmp_path / "x.tar.gz")
    result = run("show", "--compare", str(tarball), str(manifest))
    assert result.code == 0
    assert "(without a manifest: much is unknown)" in result.out
    assert "Files are not compared: there is no tarball of B.\n" in result.out
    document = run("show", "--compare", str(tarball), str(manifest), "--json").document
    assert (document["comparison"]["files"], document["comparison"]["features"]) == (None, None)


@pytest.mark.parametrize("words", [(), ("a",), ("a", "b", "c"), ("a", "b", "--advisory", "CVE-1")])
def test_a_comparison_needs_two_packages(run: Runner, words: tuple[str, ...]) -> None:
    result = run("show", "--compare", *words)
    assert (result.code, result.out) == (2, "")
    assert "--compare needs two packages" in result.err


# --- settings -----------------------------------------------------------------------------------


def test_settings_show_what_is_in_effect_and_why(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_SOURCE_MIRRORS", "http://me:secret@h/x https://i/y")
    result = run("--project-name", "lab", "settings")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"project_name +lab +--project-name\n", result.out)
    assert f"{tmp_path}/cache" in result.out
    assert re.search(r"http://\*\*\*@h/x https://i/y +SLURM_FACTORY_SOURCE_MIRRORS", result.out)
    assert re.search(r"cpu_limit +unset +default\n", result.out)
    as_json = run("settings", "--json", "source_mirrors", "image_server")
    assert [(each["name"], each["source"]) for each in as_json.document["settings"]] == [
        *(("source_mirrors", "environment"), ("image_server", "default")),
    ]
    assert as_json.document["settings"][0]["value"] == ["http://***@h/x", "https://i/y"]
    assert "secret" not in result.out + as_json.out


def test_settings_tell_all_mistakes_at_once_and_end_with_2(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_CPU_LIMIT", "none")
    monkeypatch.setenv("SLURM_FACTORY_GLIBC", "new")
    monkeypatch.setenv("SLURM_FACTORY_NO_SUCH", "1")
    result = run("settings")
    assert result.code == 2
    assert re.search(r"cpu_limit +none +SLURM_FACTORY_CPU_LIMIT +wrong\n", result.out)
    assert result.err.count("Error: The setting") == 2
    assert "Ignoring SLURM_FACTORY_NO_SUCH" in result.err
    as_json = run("settings", "--json")
    assert as_json.code == 2
    assert len(as_json.document["problems"]) == 2
    assert run("settings", "cache_dir").code == 0


# --- documents ----------------------------------------------------------------------------------


def test_a_dry_run_prints_the_plan_and_touches_nothing(run: Runner, tmp_path: Path) -> None:
    result = run(*BUILD, "--dry-run", "--gpu", "--quiet")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("slurm-24.11-gpu-debian-12-system: Slurm 24.11.")
    assert "slurmrestd, with JSON" in result.out
    assert "no openmpi" in result.out
    assert "slurm-relocatable.patch" in result.out
    assert "--with-nvml=/srv/build/nvml" in shlex.split(result.out.splitlines()[-1])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("option", "lines"), [("-q", 0), ("--quiet", 0), ("-v", 1)])
@pytest.mark.parametrize("before", [True, False])
def test_quiet_and_verbose_may_stand_before_and_after_the_command(
    run: Runner, monkeypatch: pytest.MonkeyPatch, option: str, lines: int, *, before: bool
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_NO_SETTING", "1")
    command = ("versions",)
    result = run(*((option, *command) if before else (*command, option)))
    assert (result.code, len(result.err.splitlines())) == (0, lines)


def test_a_dry_run_prints_the_plan_as_json(run: Runner) -> None:
    document = run(*BUILD, "--dry-run", "--json").document
    assert document["version"] == JSON_VERSION
    assert document["plan"]["stem"] == "slurm-24.11-debian-12-system"
    assert document["plan"]["release"]["series"] == "24.11"
    assert {"munge", "libmunge-dev", "ccache"} <= set(document["plan"]["packages"])
    gpu = run(*BUILD, "--dry-run", "--json", "--gpu").document
    assert "--with-nvml=/srv/build/nvml" in gpu["plan"]["configure"]


def test_versions_lists_every_release(run: Runner) -> None:
    document = run("versions", "--json").document
    assert document["version"] == JSON_VERSION
    assert [r["release"] for r in document["releases"]] == [r.release for r in catalog()]
    text = run("versions").out
    assert all(release.release in text for release in catalog())


def test_the_version_is_printed(run: Runner) -> None:
    assert run("--version").out == f"{__version__}\n"


def test_a_machine_without_builds_lists_none(run: Runner) -> None:
    assert run("list").out == "There are no finished builds.\n"
    assert run("list", "--json").document == {"version": JSON_VERSION, "builds": []}


def test_a_cache_that_cannot_be_read_is_not_reported_as_a_machine_without_builds(
    run: Runner, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("")
    result = run("list")
    assert (result.code, result.out) == (7, "")
    assert f"{tmp_path}/cache could not be read" in result.err
    assert "Not a directory" in result.err


def test_finished_builds_are_listed_and_damaged_ones_distinguished(
    run: Runner, tmp_path: Path
) -> None:
    path = published(tmp_path / "cache/builds", tmp_path / "staged")
    damaged = path.with_name("slurm-24.11-gpu-manifest.json")
    damaged.write_text("{")
    result = run("list", "--json")
    assert result.code == 0
    broken, complete = sorted(result.document["builds"], key=lambda b: not b["problem"])
    assert complete["identity"]["release"] == "24.11.5"
    assert (broken["manifest_path"], broken["identity"]) == (str(damaged), None)
    assert len(complete["advisories"]) == 8
    assert complete["advisories_at_build"] is None
    text = run("list").out
    assert "vulnerable: CVE-2026-65168" in text
    assert "not a manifest" in text
    assert "24.11.5" in text


def test_names_with_brackets_and_colons_are_printed_as_they_are(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "[red]x:smile:"
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(odd))
    published(odd / "builds", tmp_path / "staged")
    assert f"{odd}/builds/24.11/slurm-24.11-debian-12-system " in run("list").out


@pytest.mark.parametrize("user", [0, 1000])
def test_an_up_to_date_build_is_reported_with_the_lines_that_put_it_to_use(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    builds = tmp_path / "with space/builds/24.11"
    software = make_package(builds, IDENTITY.release, stem=IDENTITY.stem)
    path = write_manifest(make_manifest((File.of(describe(software)),)), builds)
    outcome = Outcome(path, load_manifest(path), up_to_date=True)
    monkeypatch.setattr("slurm_factory.up_to_date.find_up_to_date", lambda *_: outcome)
    monkeypatch.setattr("os.geteuid", lambda: user)
    text = run(*BUILD).out
    assert "up to date; --force builds it again" in text
    program, module, unpack, script = [line for line in text.splitlines() if line.startswith("  ")][
        -4:
    ]
    assert "module load slurm/24.11" in module
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(builds.parent.parent))
    ours = program.replace("slurm-factory", f"{sys.executable} -m slurm_factory", 1)
    for number, commands in enumerate((ours, f"{unpack}\n{script}")):
        prefix = tmp_path / str(number)
        words = ["sh", "-euc", f"{commands} --prefix {prefix}"]
        subprocess.run(words, cwd=builds, check=True, timeout=PATIENCE)
        assert (prefix / "current/software/sbin/slurmd").is_file()
    document = run(*BUILD, "--json").document
    assert document["up_to_date"] is True
    assert document["manifest_path"] == str(path)
    assert document["manifest"]["identity"]["release"] == "24.11.5"


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_lists_only_options_that_work(run: Runner, command: str) -> None:
    result = run(command, "--help")
    assert (result.code, result.err) == (0, "")
    options = set(re.findall(r"--[a-z][a-z-]+", result.out))
    assert "--install-completion" not in options
    assert "--json" in options
    assert run(command, "-h").out == result.out


def test_help_names_all_that_is_in_a_minimal_package(run: Runner) -> None:
    text = run("build", "--help").out
    [line] = [line.lower() for line in text.splitlines() if line.lstrip().startswith("--minimal")]
    contained = [feature.name for feature in table() if BuildType.MINIMAL in feature.types]
    assert [name for name in contained if name not in line] == []


def test_help_lists_only_commands_that_work(run: Runner) -> None:
    text = run("--help").out
    listed = re.findall(r"^  ([a-z]+) ", text.partition("Commands:")[2], re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


LOADING = """
import contextlib, io, json, os, sys
from slurm_factory.__main__ import run
for arguments, environment in json.loads(sys.argv[1]):
    sys.argv = ["slurm-factory", *arguments]
    os.environ.update(environment)
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        run()
print("", *sys.modules, file=sys.stderr)
"""


def test_help_and_completion_wait_for_no_library_that_only_commands_need() -> None:
    """All in one process: what the last has not loaded, none has."""
    runs: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("--help",), {}),
        *(((command, "--help"), {}) for command in COMMANDS),
        (("-v",), {}),
        ((), complete("build", "--slurm-version", "25")),
        ((), complete("build", "--base", "deb")),
        ((), complete("build", "--additional-variants", "+h")),
        ((), complete("bu")),
    ]
    command = [sys.executable, "-c", LOADING, json.dumps(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage: slurm-factory") == 1 + len(COMMANDS)
    assert {"25.05", "debian@12", "+hwloc", "build"} <= set(done.stdout.split())
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert {name.partition(".")[0] for name in loaded} & set(HEAVY) == set()
    assert {name for name in loaded if name.startswith("slurm_factory.")} <= set(LIGHT)


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        (("--slurm-version", "25"), ["25.05", "25.11"]),
        (("--slurm-version", "l"), ["latest"]),
        (("--base", "deb"), ["debian@12", "debian@13"]),
        (("--base", "s"), ["same"]),
        (("--deps", "s"), ["spack", "system"]),
        (("--additional-variants", "+h"), ["+hwloc", "+hdf5"]),
        (("--additional-variants", "~re"), ["~readline", "~restd"]),
        (("--additional-variants", '"+hdf5 ~re'), ["+hdf5 ~readline", "+hdf5 ~restd"]),
    ],
)
@pytest.mark.parametrize("command", ["build", "prefetch"])
def test_the_shell_completes_values_of_options(
    command: str, words: tuple[str, ...], completions: list[str]
) -> None:
    assert completed(command, *words) == completions


def test_the_shell_completes_whatever_is_accepted() -> None:
    assert completion.versions("25.05")[0] == "25.05"
    names = {name for series in completion.versions("2") for name in completion.versions(series)}
    assert names == {*series(), *(release.release for release in catalog())}
    assert completion.bases("") == [*(base.name for base in bases()), "same"]
    assert completion.variants("+") == [f"+{f.variant}" for f in table() if f.variant]
    assert completion.recipes("") == list(Deps)
    assert completion.architectures("") == list(ARCHITECTURES)


def test_the_shell_completes_names_of_finished_builds(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = tmp_path / "cache/builds/24.11"
    for kind in ("", "-gpu"):
        publish_package(builds, "24.11.5", kind)
    both = ["slurm-24.11", "slurm-24.11-gpu"]
    for words in (
        *(("show", "sl"), ("verify", "sl"), ("clean", "sl")),
        *(("show", "--compare", "slurm-24.11", ""), ("verify", "x", "--upgrade-from", "slurm-2")),
    ):
        assert completed(*words) == both
    assert completed("show", "slurm-24.11-g") == both[1:]
    monkeypatch.setenv("SLURM_FACTORY_CPU_LIMIT", "wrong")
    assert completed("show", "sl") == [""]


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        (("settings", "cp"), ["cpu_limit"]),
        (("settings", "cpu_limit", "glib"), ["glibc"]),
        (("build", "--glibc", "2.28"), ["2.28"]),
        (("build", "--glibc", "b"), ["base"]),
        (("show", "--advisory", "CVE-2026-65107"), ["CVE-2026-65107"]),
    ],
)
def test_the_shell_completes_other_values(words: tuple[str, ...], completions: list[str]) -> None:
    assert completed(*words) == completions


def test_the_shell_completes_no_glibc_that_is_refused(run: Runner) -> None:
    for glibc in completion.glibcs("2"):
        if glibc <= "2.39":
            assert run("build", "--slurm-version", "25.05", "--glibc", glibc, "--dry-run").code == 0


def completed(*words: str) -> list[str]:
    result = CliRunner().invoke(app, env=complete(*words), prog_name="slurm-factory")
    assert result.exit_code == 0
    return result.stdout.splitlines()


# --- clean --------------------------------------------------------------------------------------


@pytest.fixture
def lxc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLxc:
    """LXD with an instance that a build left behind."""
    fake = install_fake_lxc(tmp_path / "bin", monkeypatch)
    fake.instances([instance(DEAD, datetime.now(UTC) - timedelta(days=2))])
    return fake


def test_clean_without_a_terminal_asks_for_yes_and_removes_nothing(
    run: Runner, lxc: FakeLxc
) -> None:
    result = run("clean")
    assert result.code == 2
    assert DEAD in result.out
    assert "--yes" in result.err
    assert lxc.changes == []


def test_clean_removes_what_it_shows(run: Runner, lxc: FakeLxc) -> None:
    result = run("clean", "--yes")
    assert (result.code, DEAD in result.out) == (0, True)
    assert lxc.changes == [f"delete --force {DEAD}"]
    assert run("clean", "--yes").out == "There is nothing to remove.\n"


def test_a_dry_run_of_clean_removes_nothing(run: Runner, lxc: FakeLxc) -> None:
    document = run("clean", "--dry-run", "--json").document
    assert document["dry_run"] is True
    assert document["removals"] == [{"kind": "instance", "name": DEAD, "size": None}]
    assert lxc.changes == []


def test_clean_does_not_tell_a_cache_that_cannot_be_read_as_nothing_to_remove(
    run: Runner, lxc: FakeLxc, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("")
    result = run("clean", "--yes")
    assert (result.code, result.out) == (7, "")
    assert f"{tmp_path}/cache could not be read" in result.err
    assert lxc.changes == []


def test_clean_ends_with_the_code_of_the_first_error_and_shows_what_is_left(
    run: Runner, lxc: FakeLxc
) -> None:
    lxc.fail("delete --force", "Error: The instance is busy")
    result = run("clean", "--yes")
    assert result.code == 3
    assert f"{DEAD} was not removed" in result.err
    assert "The instance is busy" in result.err


def test_clean_shows_which_instance_it_keeps(run: Runner, lxc: FakeLxc, tmp_path: Path) -> None:
    lock = tmp_path / "live.lock"
    lxc.instances([instance("build-live", datetime.now(UTC), lock)])
    with locked_elsewhere(lock):
        result = run("clean", "--full", "--yes")
    assert "build-live is kept: its build runs." in result.err
    assert "--full waits for build-live." in result.err
    assert lxc.changes == []


def test_clean_works_in_the_project_that_was_named(run: Runner, lxc: FakeLxc) -> None:
    lxc.projects("default", PROJECT, "lab")
    run("--project-name", "lab", "clean", "--yes")
    assert f"--project lab delete --force local:{DEAD}" in (lxc.directory / "calls").read_text()


def test_clean_of_named_packages_leaves_everything_else(
    run: Runner, lxc: FakeLxc, tmp_path: Path
) -> None:
    builds = tmp_path / "cache/builds"
    prepare_cache(sample_settings(tmp_path / "cache"))
    for kind in ("", "-gpu"):
        publish_package(builds / "24.11", "24.11.5", kind)
    asked = run("clean", "slurm-24.11")
    assert (asked.code, "--yes" in asked.err) == (2, True)
    document = run("clean", "slurm-24.11", "--yes", "--json").document
    assert {removal["kind"] for removal in document["removals"]} == {"build"}
    assert [build["identity"]["stem"] for build in run("list", "--json").document["builds"]] == [
        "slurm-24.11-gpu"
    ]
    assert lxc.changes == []
    again = run("clean", "slurm-24.11", "--yes")
    assert (again.code, again.out) == (2, "")
    assert "Did you mean slurm-24.11-gpu?" in again.err


def test_clean_keeps_as_many_as_it_is_told(run: Runner, lxc: FakeLxc, tmp_path: Path) -> None:
    prepare_cache(sample_settings(tmp_path / "cache"))
    for number in (5, 6, 7):
        created = datetime(2026, 11, number, tzinfo=UTC)
        version = f"24.11.{number}"
        publish_package(tmp_path / f"cache/builds/{version}", version, created=created)
    assert run("clean", "--keep", "2", "--dry-run", "--json").document["dry_run"] is True
    assert run("clean", "--keep", "2", "--yes").code == 0
    left = [build["identity"]["release"] for build in run("list", "--json").document["builds"]]
    assert left == ["24.11.6", "24.11.7"]
    assert lxc.changes == []
    for wrong in (("--keep", "0"), ("--keep", "x"), ("--keep", "1", "--full"), ("--keep",)):
        assert run("clean", *wrong, "--yes").code == 2


def test_an_age_that_is_none_is_exit_code_2(run: Runner, lxc: FakeLxc) -> None:
    result = run("clean", "--older-than", "soon")
    assert result.code == 2
    assert "--older-than 30d" in result.err


# --- setup and doctor ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"), [(Status.OK, 0), (Status.WARNING, 0), (Status.FAILED, 3)]
)
def test_doctor_ends_with_3_only_if_something_stops_builds(
    run: Runner, monkeypatch: pytest.MonkeyPatch, status: Status, code: int
) -> None:
    check = Check("network", status, "The bridge has no NAT.", "lxc network set x y")
    monkeypatch.setattr(doctor, "doctor", lambda _: (check,))
    result = run("doctor")
    assert result.code == code
    assert f"{status:8} network: The bridge has no NAT." in result.out
    assert "fix: lxc network set x y" in result.out
    [told] = run("doctor", "--json").document["checks"]
    assert (told["status"], told["fix_command"]) == (status, "lxc network set x y")


def test_command_that_doctor_prints_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check = Check("daemon", Status.FAILED, "The daemon does not run.", "slurm-factory setup")
    monkeypatch.setattr(doctor, "doctor", lambda _: (check,))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/slurm-factory", "doctor"])
    assert "fix: .venv/bin/slurm-factory setup\n" in CliRunner().invoke(app, ["doctor"]).stdout


# --- interruption -------------------------------------------------------------------------------

WAITING = """
import signal, time
from slurm_factory import main, up_to_date
def wait(*_):
    print("ready", flush=True)
    while True:  # and not signal.pause(), which sleeps on when the signal has come before it
        time.sleep(0.01)
up_to_date.find_up_to_date = wait
# Ignored from the start, as nohup(1) leaves SIGHUP, they would stay so.
for number in main.HELD:
    signal.signal(number, signal.SIG_DFL)
main.run()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_termination_end_with_130_and_one_line(
    tmp_path: Path, number: signal.Signals
) -> None:
    environment = {**os.environ, "SLURM_FACTORY_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WAITING, *BUILD, "--quiet"]
    with subprocess.Popen(
        command, env=environment, stdout=-1, stderr=-1, text=True, process_group=0
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "Error: Interrupted.\n")


INTERRUPTED = """
import os, runpy, signal, sys
during, before, *numbers = sys.argv.pop(1).split()
class Sender:
    def find_spec(self, name, *_):
        if name == during:
            for number in numbers:
                os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Sender())
for number in numbers:
    signal.signal(int(number), getattr(signal, before))
runpy.run_module("slurm_factory", run_name="__main__", alter_sys=True)
"""


def interrupted(during: str, before: str, *numbers: int) -> tuple[int, str, str]:
    """How `--version` ends when signals, handled as `before`, come as it imports `during`."""
    words = " ".join((during, before, *map(str, map(int, numbers))))
    command = [sys.executable, "-c", INTERRUPTED, words, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("during", "number"),
    [
        ("slurm_factory.main", signal.SIGINT),
        ("typer", signal.SIGTERM),
        ("slurm_factory.output.stdout", signal.SIGHUP),
    ],
)
def test_ctrl_c_while_the_program_is_loaded_causes_no_traceback(
    during: str, number: signal.Signals
) -> None:
    assert interrupted(during, "SIG_DFL", number) == (130, "", "")


def test_a_signal_that_is_ignored_stays_so_while_the_program_is_loaded() -> None:
    assert interrupted("typer", "SIG_IGN", *HELD) == (0, f"{__version__}\n", "")


def test_ctrl_c_before_a_command_begins_causes_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "app", interrupt)
    monkeypatch.setattr(command_line, "handle_endings", lambda _: None)
    with pytest.raises(SystemExit) as caught:
        command_line.run()
    assert caught.value.code == 130


def test_ctrl_c_while_another_thread_is_waited_for_causes_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(up_to_date, "find_up_to_date", lambda *_: interrupt_a_wait())
    done = CliRunner().invoke(app, [*BUILD, "--quiet"])
    assert (done.exit_code, done.stderr) == (130, "Error: Interrupted.\n")


def test_what_comes_before_the_handlers_of_ctrl_c_is_loaded_at_once() -> None:
    code = "import sys, slurm_factory.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"typer", "pydantic", "importlib.metadata"} & set(done.stdout.split())


def test_what_a_library_logs_is_not_shown_to_users(tmp_path: Path) -> None:
    # craft-providers does this in a thread of its own when the instance is gone.
    program = (
        "import logging; from slurm_factory import main;"
        " main.app = lambda: logging.exception('Error updating instance timer'); main.run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == (b"", b"")
