"""Rules for all tests: unit tests leave the machine alone; continuous integration skips nothing.

The processes of pytest-xdist read this file, and so does the one that reports for them.
"""

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


CONTAINER_TESTS = (
    "test_build",
    "test_install_page",
    "test_package_live",
    "test_failed_builds",
    "test_matrix",
    "test_hostile_builds",
    "test_interruptions",
    "test_destructive",
    "test_action",
    "test_faults",
    "test_host",
    "test_contents",
)
"""Files in the order in which they begin. The longest come first, so that the last to run ends
soon after the others; the first compiles what most others wait for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests come first, for they fail within a minute."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if not item.get_closest_marker("integration"):
        return 0
    name = item.path.stem
    listed = name in CONTAINER_TESTS
    return 1 + (CONTAINER_TESTS.index(name) if listed else len(CONTAINER_TESTS))


def pytest_configure() -> None:
    """Start with the program's umask, in any shell."""
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
def close_to_us(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """The last line says how many container tests were skipped, and why."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    # Beside reports of tests there are errors of collection, warnings, and tests that -k left out.
    entries = [entry for entries in reporter.stats.values() for entry in entries]
    reports = [entry for entry in entries if isinstance(entry, pytest.TestReport)]
    seen = [report for report in reports if "integration" in report.keywords]
    if not seen:
        return
    skipped = [report for report in seen if report.skipped]
    told = (r.longrepr[2] for r in skipped if isinstance(r.longrepr, tuple))
    reasons = {reason.removeprefix("Skipped: ") for reason in told}
    because = f": {'; '.join(sorted(reasons))}" if reasons else ""
    reporter.write_line(f"{len(skipped)} container tests were skipped{because}.")
