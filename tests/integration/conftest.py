"""What container tests share. They skip only where LXD cannot run at all."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from clean_instance import CleanInstance, clean_copy
from fault_tools import MINIMAL, RELEASE, Site, copy_cache, make_cache, own_project
from filelock import FileLock

from slurm_factory.config import Settings, load_settings
from slurm_factory.constants import Deps
from slurm_factory.exceptions import LXDError
from slurm_factory.host.doctor_instance import last_line, try_instance
from slurm_factory.host.facts import Daemon, Privilege
from slurm_factory.host.probe import probe, probe_account
from slurm_factory.instances.lxc import lxc
from slurm_factory.plan.bases import host_release
from slurm_factory.plan.plan import BuildRequest, make_plan


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory (host) in which the processes of one test run (xdist) find each other's work."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def lxd(shared: Path) -> Settings:
    """Settings of this site, once LXD is known to work."""
    reason = _why_lxd_cannot_run()
    if reason is not None:
        pytest.skip(f"LXD cannot run here: {reason}")
    try:
        lxc("info", project="default")
    except LXDError as error:
        pytest.fail(f"LXD could run here but is not set up; run `slurm-factory setup`. {error}")
    reason = _why_no_instance_starts(shared / "lxd-is-tried")
    if reason:
        pytest.skip(f"LXD cannot run here: no instance starts: {reason}")
    return load_settings()


def _why_lxd_cannot_run() -> str | None:
    """None if LXD runs, or is only not installed or not started."""
    facts = probe()
    if facts.daemon is Daemon.ANSWERING:
        return None
    if facts.privilege is Privilege.NONE:
        return "LXD does not answer, and this user cannot become root to change that"
    return facts.obstacle


def _why_no_instance_starts(known: Path) -> str:
    """What the one trial of a test run has said; nothing where an instance started.

    Tests of `doctor` take what such a trial has for the while to be a leftover.
    """
    with FileLock(f"{known}.lock"):
        if not known.exists():
            started = try_instance(probe_account())
            known.write_text("" if started.ok else last_line(started.output) or "it does not say")
    return known.read_text()


@pytest.fixture(scope="session")
def build_package(lxd: Settings, shared: Path) -> Callable[..., Path]:
    """Builds a package as a user does, and returns its manifest (host); up to date is fine."""

    @cache
    def build(version: str, base: str = "debian@12") -> Path:
        request = BuildRequest(version, deps=Deps.SYSTEM, base=base)
        plan = make_plan(request, platform.machine(), host_release())
        command = [sys.executable, "-m", "slurm_factory", "build", "--slurm-version", version]
        # Who comes second finds the package, and does not compile the same at the same time.
        with FileLock(shared / "package.lock"):
            done = subprocess.run(
                [*command, "--deps", "system", "--base", base],
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        return lxd.builds_dir / plan.requested / f"{plan.stem}-manifest.json"

    return build


@pytest.fixture(scope="module")
def fresh_site(
    lxd: Settings, build_package: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A place of its own with sources and a base instance, where nothing was compiled yet."""
    build_package(RELEASE, "same")
    cache = make_cache(tmp_path_factory.mktemp("fresh"), lxd)
    with own_project(lxd) as project:
        yield Site(cache, project)


@pytest.fixture(scope="session")
def compiled(lxd: Settings, build_package: Callable[..., Path], shared: Path) -> Path:
    """A cache directory (host) with a minimal package and all that its build left, to be copied.

    The build began with an empty compiler cache. It is the only one of a test run, unless a test
    needs one of its own.
    """
    build_package(RELEASE, "same")
    made = shared / "compiled"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            cache = make_cache(shared / "compiling", lxd)
            with own_project(lxd) as project:
                Site(cache, project).build(*MINIMAL)
            cache.rename(made)
    return made


@pytest.fixture(scope="module")
def site(lxd: Settings, compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A place of its own whose caches are warm, and which has a package."""
    cache = copy_cache(compiled, tmp_path_factory.mktemp("warm") / "cache")
    with own_project(lxd) as project:
        yield Site(cache, project)


@pytest.fixture(scope="module")
def clean_instance(lxd: Settings) -> Iterator[CleanInstance]:
    """A running Debian 13 container in which nothing can be built."""
    with clean_copy(lxd) as instance:
        yield instance
