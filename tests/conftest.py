"""Rules for all tests: unit tests leave the machine alone; continuous integration skips nothing."""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import guard
import pytest

UNIT = Path(__file__).parent / "unit"
FOREIGN = (
    "CLICOLOR",
    "COLUMNS",
    "FORCE_COLOR",
    "GITHUB_",
    "IF_PROJECT_NAME",
    "LXD_",
    "NO_COLOR",
    "SLURM_",
    "XDG_",
)
"""Starts of variables by which the surroundings of a test run would change what is tested."""
PROXIES = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}
REQUIRE_LXD = "SLURM_FACTORY_TESTS_REQUIRE_LXD"
CONTAINER_TESTS_REQUIRED = os.environ.get(REQUIRE_LXD) == "1"


def pytest_configure() -> None:
    """Begin as the program does, whatever shell has started this."""
    # A user of Debian 13 has 0002; the program never lets a group write (main.py).
    os.umask(0o022)
    # A shell starts what runs in the background with Ctrl-C ignored, and programs inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def protect_machine(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Give each unit test an empty home, and end it when it reaches for the machine."""
    if UNIT not in request.path.parents:
        yield
        return
    for name in os.environ:
        if name.startswith(FOREIGN) or name.lower() in PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    with guard.protected(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture
def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Lets a path and all below it seem to lie in somebody's 0700 directory, also to root."""

    def close(closed: Path) -> None:
        look = Path.stat

        def stat(path: Path, **named: Any) -> os.stat_result:
            if path.is_relative_to(closed):
                raise PermissionError(13, "Permission denied", str(path))
            return look(path, **named)

        monkeypatch.setattr(Path, "stat", stat)

    return close


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where container tests are required, a skipped one has failed."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if CONTAINER_TESTS_REQUIRED and skipped and item.get_closest_marker("integration"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{REQUIRE_LXD} forbids to skip this test: {reason}"
    return report
