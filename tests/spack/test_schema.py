"""What Spack itself makes of the environments that are rendered for it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from plan_samples import SPACK, spack_plan

from slurm_factory.constants import (
    INSTANCE_PROJECT,
    INSTANCE_SPACK_PACKAGES,
    INSTANCE_STORE,
    BuildType,
)
from slurm_factory.plan.plan import BuildPlan, SpackChoice
from slurm_factory.plan.releases import series
from slurm_factory.spack_yaml import EXTERNALS_YAML, SITE_YAML, SPACK_YAML, generate_yaml_string

HERE = os.environ.get("SLURM_FACTORY_TESTS_SPACK", "")
PYTHON = os.environ.get("SLURM_FACTORY_TESTS_SPACK_PYTHON", sys.executable)
SCRIPT = Path(__file__).with_name("look_at_environments.py")

pytestmark = [
    pytest.mark.spack,
    pytest.mark.skipif(
        not HERE, reason="SLURM_FACTORY_TESTS_SPACK names no directory with spack and its recipes"
    ),
]

EXTERNALS = """\
packages:
  cmake:
    buildable: false
    externals:
    - spec: cmake@3.25.1
      prefix: /usr
"""
SITE = """\
packages:
  cmake:
    externals:
    - spec: cmake@3.30
      prefix: /opt/cmake
  openssl:
    buildable: false
    externals:
    - spec: openssl@3.0.15
      prefix: /usr
config:
  connect_timeout: 60
  verify_ssl: false
  install_tree:
    root: /somewhere/else
"""

Seen = dict[str, dict[str, Any]]


def chosen(**changes: Any) -> SpackChoice:
    return SpackChoice(SPACK.refs, **({"target": SPACK.target} | changes))


def write_environment(directory: Path, text: str, site: str = "") -> Path:
    directory.mkdir()
    (directory / SPACK_YAML).write_text(text)
    (directory / EXTERNALS_YAML).write_text(EXTERNALS)
    if site:
        (directory / SITE_YAML).write_text(site)
    return directory


def look(*directories: Path, home: Path) -> Seen:
    """What Spack says about the environments in `directories`."""
    # Outside an environment Spack would clone its recipes.
    recipes = f"{HERE}/spack-packages/repos/spack_repo/builtin"
    (home / "repos.yaml").write_text(yaml.safe_dump({"repos:": {"builtin": recipes}}))
    done = subprocess.run(
        [f"{HERE}/spack/bin/spack", "python", str(SCRIPT), *map(str, directories)],
        env={
            **os.environ,
            "SPACK_PYTHON": PYTHON,
            "SPACK_SYSTEM_CONFIG_PATH": str(home),
            "SPACK_USER_CONFIG_PATH": str(home / "none"),
            "SPACK_USER_CACHE_PATH": str(home / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: Seen = json.loads(done.stdout)
    return seen


def plans() -> dict[str, BuildPlan]:
    """One of each series and type, and one with everything that the settings can add."""
    found = {
        f"{name}-{build_type}": spack_plan(
            name, gpu=build_type is BuildType.GPU, minimal=build_type is BuildType.MINIMAL
        )
        for name in series()
        for build_type in BuildType
    }
    full = chosen(
        config=SITE,
        source_mirrors=("https://s.example",),
        buildcaches=("https://b.example",),
        signed=False,
    )
    return {**found, "full": spack_plan(spack=full)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What Spack says about the environment of every plan, by the plan's name."""
    home = tmp_path_factory.mktemp("environments")
    directories = [
        write_environment(home / name, generate_yaml_string(plan), SITE)
        for name, plan in plans().items()
    ]
    return {Path(name).name: said for name, said in look(*directories, home=home).items()}


@pytest.mark.parametrize("name", plans())
def test_spack_knows_every_key_that_is_written(name: str, seen: Seen) -> None:
    assert seen[name]["errors"] == []


@pytest.mark.parametrize(
    ("section", "key"),
    [
        *(("config", key) for key in ("verify", "concretizer", "jobs")),
        *(("concretizer", "reuses"), ("packages", "all"), ("view", "default")),
    ],
)
def test_a_key_that_spack_ignores_would_be_seen(section: str, key: str, tmp_path: Path) -> None:
    document = yaml.safe_load(generate_yaml_string(spack_plan()))
    place = document["spack"][section]
    if key in place:
        place[key]["not-a-key"] = "x"
    else:
        place[key] = "x"
    directory = write_environment(tmp_path / "environment", yaml.safe_dump(document))
    said = look(directory, home=tmp_path)[str(directory)]["errors"]
    assert len(said) == 1
    assert (key if key not in {"all", "default"} else "not-a-key") in said[0]


def test_the_site_adds_to_the_configuration_and_beats_what_was_found_in_the_base(
    seen: Seen,
) -> None:
    packages = seen["full"]["configuration"]["packages"]
    assert packages["openssl"]["buildable"] is False
    assert packages["openssl"]["variants"] == "certs=none"
    specs = [external["spec"] for external in packages["cmake"]["externals"]]
    assert specs == ["cmake@3.30", "cmake@3.25.1"]
    assert seen["full"]["configuration"]["config"]["verify_ssl"] is False


def test_the_site_cannot_move_the_store(seen: Seen) -> None:
    config = seen["full"]["configuration"]["config"]
    assert config["install_tree"]["root"] == str(INSTANCE_STORE)


def test_mirrors_are_asked_in_their_order_and_the_public_one_last(seen: Seen) -> None:
    assert list(seen["full"]["configuration"]["mirrors"]) == [
        *("sources", "local", "made-here", "sources-1", "binaries-1", "spack-public")
    ]


def test_our_recipes_are_looked_at_before_the_builtin_ones_and_those_come_from_no_network(
    seen: Seen,
) -> None:
    repos = seen["25.05-standard"]["configuration"]["repos"]
    assert list(repos.items()) == [
        ("slurm_factory", str(INSTANCE_PROJECT / "spack_repo" / "slurm_factory")),
        ("builtin", str(INSTANCE_SPACK_PACKAGES / "repos" / "spack_repo" / "builtin")),
    ]


def test_spack_never_fetches_its_own_tools(seen: Seen) -> None:
    assert seen["25.05-standard"]["configuration"]["bootstrap"]["enable"] is False
