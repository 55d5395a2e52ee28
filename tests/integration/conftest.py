"""What container tests share. They skip only where LXD cannot run at all."""

import platform
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path

import pytest
from clean_instance import CleanInstance, clean_copy

from slurm_factory.config import Settings, load_settings
from slurm_factory.constants import Deps
from slurm_factory.exceptions import LXDError
from slurm_factory.host.doctor_instance import last_line, try_instance
from slurm_factory.host.probe import probe_account, why_lxd_cannot_run
from slurm_factory.instances.lxc import lxc
from slurm_factory.plan.bases import host_release
from slurm_factory.plan.plan import BuildRequest, make_plan


@pytest.fixture(scope="session")
def lxd() -> Settings:
    """Settings of this site, once LXD is known to work."""
    reason = why_lxd_cannot_run()
    if reason is not None:
        pytest.skip(f"LXD cannot run here: {reason}")
    try:
        lxc("info", project="default")
    except LXDError as error:
        pytest.fail(f"LXD could run here but is not set up; run `slurm-factory setup`. {error}")
    started = try_instance(probe_account())
    if not started.ok:
        pytest.skip(f"LXD cannot run here: no instance starts: {last_line(started.output)}")
    return load_settings()


@pytest.fixture(scope="session")
def build_package(lxd: Settings) -> Callable[..., Path]:
    """Builds a package as a user does, and returns its manifest (host); up to date is fine."""

    @cache
    def build(version: str, base: str = "debian@12") -> Path:
        request = BuildRequest(version, deps=Deps.SYSTEM, base=base)
        plan = make_plan(request, platform.machine(), host_release())
        command = [sys.executable, "-m", "slurm_factory", "build", "--slurm-version", version]
        done = subprocess.run(
            [*command, "--deps", "system", "--base", base],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return lxd.builds_dir / plan.version / f"{plan.stem}-manifest.json"

    return build


@pytest.fixture(scope="module")
def clean_instance(lxd: Settings) -> Iterator[CleanInstance]:
    """A running Debian 13 container in which nothing can be built."""
    with clean_copy(lxd) as instance:
        yield instance


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """The last line says how many container tests were skipped, and why."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or session.config.option.collectonly:
        return
    skipped = [r for r in reporter.stats.get("skipped", ()) if "integration" in r.keywords]
    reasons = {str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped}
    because = f": {'; '.join(sorted(reasons))}" if reasons else ""
    reporter.write_line(f"{len(skipped)} container tests were skipped{because}.")
