"""A package built on Debian 12 runs a cluster on Debian 13, at one prefix and then at another.

`verify` itself is what is tested, as a user runs it. That the same fails without the patches is
shown by hand: `unpatched.py`; that each check can fail, by `try_breakages.py`.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_factory.config import Settings
from slurm_factory.instances.lxc import instance_names
from slurm_factory.package.manifest import Verified, load_manifest
from slurm_factory.package.verification import load_verification
from slurm_factory.verify.cluster import check_kinds

pytestmark = pytest.mark.integration

LEFT_OUT = {"mpi", "perl", "tls", "gpu"}
"""Checks of what a standard package with the libraries of a distribution does not have."""
MACHINE_S = {"cgroup"}
"""Checks that not every machine lets an instance make."""
OTHERS = (
    *("start", "libraries", "lmod-beside", "lmod-told", "tcl-beside", "tcl-told"),
    *("sackd", "stop"),
)
LIVE = (*(kind.name for kind in check_kinds()), *OTHERS)
STATIC = (
    *("checksums", "archive", "identity", "prefix", "run-paths", "closure", "glibc"),
    *("architecture", "permissions", "links", "build-paths", "bundled", "floor", "cpu"),
    *("features", "lua", "tcl"),
)

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def package(build_package: Callable[[str], Path]) -> Path:
    return build_package("24.11.5")


@pytest.fixture(scope="module")
def answer(package: Path) -> Answer:
    command = [sys.executable, "-m", "slurm_factory", "verify", str(package)]
    done = subprocess.run(
        [*command, "--on", "debian@13", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 6}, done.stderr
    document: Answer = json.loads(done.stdout)
    return document


def found(checks: list[Answer], name: str) -> tuple[str, str]:
    (check,) = (each for each in checks if each["name"] == name)
    return check["result"], check["detail"]


@pytest.mark.parametrize("name", STATIC)
def test_files_are_what_the_manifest_says(answer: Answer, name: str) -> None:
    result, detail = found(answer["verification"]["static"], name)
    assert result == "passed", detail


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("place", [0, 1], ids=["a prefix with a space", "where it was moved to"])
def test_cluster_elsewhere_does_what_slurm_does(answer: Answer, place: int, name: str) -> None:
    (trial,) = answer["verification"]["trials"]
    result, detail = found(trial["places"][place]["checks"], name)
    if name in LEFT_OUT:
        assert result == "skipped", detail
    elif name not in MACHINE_S:
        assert result == "passed", detail
    else:
        assert result != "failed", detail


def test_two_prefixes_were_used_and_one_has_a_space(answer: Answer) -> None:
    (trial,) = answer["verification"]["trials"]
    prefixes = [place["prefix"] for place in trial["places"]]
    assert len(set(prefixes)) == 2
    assert " " in prefixes[0]


def test_record_lies_beside_the_manifest_which_names_it(answer: Answer, package: Path) -> None:
    manifest = load_manifest(package)
    record = load_verification(package.with_name(manifest.identity.verification))
    assert isinstance(manifest.verified, Verified)
    assert manifest.verified.on == ("Debian 13",)
    assert record.passed
    assert record.software in manifest.files


def test_no_instance_is_left(answer: Answer, lxd: Settings) -> None:
    assert not [name for name in instance_names(lxd.project_name) if "-verify-" in name[:30]]
