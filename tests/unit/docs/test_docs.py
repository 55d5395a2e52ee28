"""What README and docs say about the program is so."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import doctor
import pytest
import yaml
from page_blocks import PAGES, blocks
from paths import REPOSITORY
from typer.testing import CliRunner, Result

from slurm_factory import resources
from slurm_factory.cache_dir import MARK
from slurm_factory.clean import parse_age
from slurm_factory.config import ENVIRONMENT_PREFIX, Settings
from slurm_factory.main import app
from slurm_factory.plan.spack import SECTIONS

ROOT = REPOSITORY
CONTRIBUTORS = (*sorted((ROOT / ".github").glob("**/*.yml")), *(ROOT / ".github").glob("*.md"))
"""What people on GitHub see, and workflows."""
REPOSITORY_LINK = re.compile(
    r"https://github\.com/slurm-factory/slurm-factory/(?:blob|tree)/main/([^)\s\"]+)"
)
COMMAND = re.compile(r"(?:^.*run: |`)(?:\S*/)?slurm-factory( [^`\n]+)", re.MULTILINE)
IN_BLOCK = re.compile(r"^slurm-factory( .+)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")
NIGHTLY = ROOT / ".github" / "workflows" / "nightly.yml"
TESTS_ONLY = {
    "SLURM_FACTORY_TESTS_REQUIRE_LXD",
    "SLURM_FACTORY_TESTS_SPACK",
    "SLURM_FACTORY_TESTS_SPACK_CACHE",
    "SLURM_FACTORY_TESTS_SPACK_PYTHON",
}


def commands() -> list[str]:
    texts = [page.read_text("utf-8") for page in PAGES]
    others = [page.read_text("utf-8") for page in CONTRIBUTORS]
    found = {command for text in (*texts, *others) for command in COMMAND.findall(text)}
    found |= {
        command
        for text in texts
        for block in blocks(text)
        for command in IN_BLOCK.findall(block.text)
    }
    # A fix of doctor has several commands, and leaves the release open.
    parts = {part for command in found for part in command.split(" && slurm-factory")}
    return sorted(part.strip() for part in parts if "…" not in part)


def anchors(page: Path) -> set[str]:
    """How GitHub names the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", h.lower()).replace(" ", "-") for h in headings}


Parse = Callable[[str], Result]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """What the program says about the words of a command; nothing is done."""
    for command in app.registered_commands:
        assert command.callback
        monkeypatch.setattr(command, "callback", wraps(command.callback)(lambda **_: None))
    return lambda text: CliRunner().invoke(app, shlex.split(text))


@pytest.mark.parametrize("command", [c for c in commands() if " " in c])
def test_documented_command_is_understood_by_the_program(command: str, parse: Parse) -> None:
    result = parse(command)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", [c for c in commands() if " " not in c])
def test_command_that_is_named_in_the_documentation_exists(command: str, parse: Parse) -> None:
    assert parse(f"{command} --help").exit_code == 0


@pytest.mark.parametrize("command", ["build --slurm-version 25.05 --jobs x", "list --gone"])
def test_command_that_cannot_be_parsed_would_be_seen(command: str, parse: Parse) -> None:
    assert parse(command).exit_code == 2


@pytest.mark.parametrize("age", re.findall(r"--older-than (\S+)", "\n".join(commands())))
def test_documented_age_is_one(age: str) -> None:
    assert parse_age(age)


@pytest.mark.parametrize(
    "command",
    # What names a source or a remote asks it.
    [c for c in commands() if c.startswith("build ") and not re.search("--(source|remote)", c)],
)
def test_documented_build_can_be_planned(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("slurm_factory.plan.bases.host_release", lambda: ("ubuntu", "24.04"))
    # The patches of the page on patches.
    monkeypatch.chdir(tmp_path)
    patches = tmp_path / "debian" / "patches"
    patches.mkdir(parents=True)
    for patch in (tmp_path / "fix.patch", patches / "fix.patch"):
        patch.write_text("--- a/x\n+++ b/x\n")
    (patches / "series").write_text("fix.patch\n")
    words = shlex.split(command.replace("SUM", "a" * 64))
    result = CliRunner().invoke(app, [*words, "--dry-run"])
    assert result.exit_code == 0, result.output


def test_commands_are_found_in_the_documentation() -> None:
    assert {command.split()[0] for command in commands()} >= {"build", "clean", "doctor", "setup"}


def nightly() -> Any:
    return yaml.safe_load(NIGHTLY.read_text("utf-8"))["jobs"]


def test_nightly_tests_run_with_the_spack_that_builds_use() -> None:
    checkouts = {
        f"https://github.com/{told['repository']}.git": told["ref"]
        for step in nightly()["test"]["steps"]
        if "repository" in (told := step.get("with", {}))
    }
    settings = Settings()
    assert checkouts == {
        settings.spack_url: settings.spack_ref,
        settings.spack_packages_url: settings.spack_packages_ref,
    }


@pytest.mark.parametrize("file", [NIGHTLY, ROOT / "docs" / "contributing.md"], ids=lambda f: f.name)
def test_clingo_of_the_tests_is_the_one_of_the_bases(file: Path) -> None:
    [version] = re.findall(r"clingo==(\S+)", file.read_text("utf-8"))
    wheels = [s for s in resources.load_toml("sources.toml")["source"] if "clingo" in s["name"]]
    assert wheels
    assert all(f"/clingo-{version}-" in url for wheel in wheels for url in wheel["urls"])


def test_nightly_caches_come_back_under_the_name_they_were_kept_by() -> None:
    steps = nightly()["build"]["steps"]
    kept, taken = (
        next(step["with"] for step in steps if f"cache/{action}@" in step.get("uses", ""))
        for action in ("save", "restore")
    )
    assert kept == {name: taken[name] for name in kept}
    assert kept["key"].startswith(taken["restore-keys"])
    settings = Settings()
    # Without the mark, a directory that has something in it is refused.
    paths = [settings.cache_dir / MARK, settings.buildcache_dir, settings.source_cache_dir]
    assert [Path(path).expanduser() for path in kept["path"].split()] == paths


def nightly_runs() -> str:
    return "\n".join(step.get("run", "") for job in nightly().values() for step in job["steps"])


@pytest.mark.parametrize("command", re.findall(r"slurm-factory (.+)", nightly_runs()))
def test_command_of_the_nightly_workflow_is_understood(command: str, parse: Parse) -> None:
    result = parse(command)
    assert result.exit_code == 0, result.output


def test_make_has_the_targets_of_the_nightly_workflow() -> None:
    targets = set(re.findall(r"make (\S+)", nightly_runs()))
    assert targets
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_options_page_is_what_the_code_says() -> None:
    generator = ROOT / "docs" / "generate.py"
    done = subprocess.run(
        [sys.executable, generator, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor[1:] in anchors(file), f"{target}{anchor}"


@pytest.mark.parametrize(
    "page", [*CONTRIBUTORS, ROOT / "pyproject.toml"], ids=lambda page: page.name
)
def test_link_into_the_repository_leads_somewhere(page: Path) -> None:
    for name in REPOSITORY_LINK.findall(page.read_text("utf-8")):
        assert (ROOT / name).exists(), name


def test_named_setting_exists() -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields} | TESTS_ONLY
    named = {
        name
        for page in PAGES
        for name in re.findall(rf"{ENVIRONMENT_PREFIX}[A-Z_]+[A-Z]", page.read_text())
    }
    assert named <= known


def test_sections_of_the_sites_own_configuration_are_those_that_are_taken() -> None:
    text = (ROOT / "docs" / "spack.md").read_text("utf-8")
    [named] = re.findall(r"It may have the sections\s(.*?)\.", text, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", named)) == {*SECTIONS}


def test_make_has_the_targets_that_the_documentation_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    texts = [page.read_text("utf-8") for page in PAGES]
    shell = "".join(block.text for text in texts for block in blocks(text))
    named = set(re.findall(r"^make ([a-z]+)", shell, re.MULTILINE))
    named |= {name for text in texts for name in re.findall(r"`make ([a-z]+)", text)}
    assert named >= {"build", "test"}
    assert named <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def test_every_check_of_doctor_has_an_entry_with_its_problems() -> None:
    for name, about, problems in doctor.sections():
        assert about, name
        assert problems, f"docs/doctor.py shows no problem that {name} finds"
