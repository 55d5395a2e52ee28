"""What a build takes of this machine: compilers at once, and packages it must have."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from plan_samples import sample_settings

from slurm_factory.constants import Deps
from slurm_factory.exceptions import ConfigurationError, LXDError
from slurm_factory.instances import this_machine as machine
from slurm_factory.instances.this_machine import choose_jobs, require_build_packages, size_in_bytes
from slurm_factory.plan.base_setup import BaseSetup, base_packages
from slurm_factory.plan.bases import find_base
from slurm_factory.util.machine import available_memory

DEBIAN = find_base("debian@12", ("debian", "12"))
SETUP = BaseSetup(DEBIAN, Deps.SYSTEM, "x86_64")
GIB = 1 << 30


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "available_memory", lambda: 3 * GIB)


@pytest.mark.parametrize(
    ("asked", "limits", "jobs"),
    [
        (None, {}, 6),
        (None, {"cpu_limit": 2}, 2),
        (None, {"memory_limit": "8GiB"}, 8),
        (None, {"memory_limit": "1GiB"}, 2),
        (None, {"memory_limit": "512MiB"}, 1),
        (None, {"cpu_limit": 4, "memory_limit": "1536MiB"}, 3),
        (7, {"cpu_limit": 2, "memory_limit": "1GiB"}, 7),
    ],
)
def test_as_many_compilers_run_as_cpus_and_memory_allow(
    eight_cpus: None, asked: int | None, limits: dict[str, Any], jobs: int
) -> None:
    assert choose_jobs(asked, sample_settings("/c", **limits)) == jobs


def test_memory_limit_under_which_a_compiler_would_crawl_is_refused(eight_cpus: None) -> None:
    with pytest.raises(ConfigurationError, match="SLURM_FACTORY_MEMORY_LIMIT"):
        choose_jobs(None, sample_settings("/c", memory_limit="100MiB"))


def test_the_memory_that_is_available_here_is_read_from_the_kernel() -> None:
    available = available_memory()
    assert (64 << 20) < available <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("size", "number"),
    [("8GiB", 8 * GIB), ("5GB", 5 * 10**9), ("512MiB", 512 << 20), ("1.5TB", 15 * 10**11)],
)
def test_sizes_are_read_in_lxds_units(size: str, number: int) -> None:
    assert size_in_bytes(size) == number


def test_missing_packages_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = {f"{name}:amd64": "1" for name in base_packages(SETUP)}
    monkeypatch.setattr(machine, "machine_record", lambda _: {"packages": installed})
    require_build_packages(DEBIAN)
    del installed["libmunge-dev:amd64"], installed["ccache:amd64"]
    with pytest.raises(LXDError) as caught:
        require_build_packages(DEBIAN)
    assert caught.value.exit_code == 3
    assert caught.value.details == "Missing: ccache libmunge-dev."
    assert "slurm-factory setup --destructive-mode" in caught.value.resolution


@pytest.mark.skipif(not Path("/usr/bin/dpkg-query").exists(), reason="no dpkg on this machine")
def test_the_packages_of_this_very_machine_are_recorded() -> None:
    record = machine.machine_record(DEBIAN)
    [libc] = [version for name, version in record["packages"].items() if "libc6:" in name]
    assert libc


def test_a_dpkg_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise subprocess.CalledProcessError(2, ["dpkg-query"])

    monkeypatch.setattr(machine, "read_record", fail)
    with pytest.raises(LXDError, match="cannot be listed") as caught:
        machine.machine_record(DEBIAN)
    assert "dpkg-query" in caught.value.details
