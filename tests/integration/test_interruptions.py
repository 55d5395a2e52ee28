"""A build that meets a fault loses nothing and leaves nothing but the caches.

These are some of the cases of tests/support/fault_cases.py; `make faults` runs all of them. That
builds work after each is seen by the next, which gets further.
"""

from pathlib import Path

import pytest
from fault_cases import all_cases
from fault_runner import FORCED, Scene, leftovers, run_case
from fault_tools import Site, Terminal

pytestmark = pytest.mark.integration

CASES = {case.key: case for case in all_cases()}
QUICK = (
    "SIGINT (Ctrl-C): Launch",
    "SIGINT (Ctrl-C): Configure",
    "SIGINT (Ctrl-C): Compile",
    "SIGINT (Ctrl-C): Pack",
    "SIGTERM: Configure",
    "SIGHUP: Unpack and patch",
    "the instance is deleted: Configure",
    "the disk of the cache is full: Compile",
)
"""Installing runs in the instance, as compiling does. What follows it runs on this machine alone
and is one case: packing stands for it."""


def test_clean_removes_what_a_killed_build_leaves(site: Site) -> None:
    with Terminal(site, *FORCED) as terminal:
        terminal.wait_for("Configure …")
        terminal.process.kill()
        terminal.process.wait()
    left = site.instances()
    assert len(left) == 1
    shown = site.run("clean", "--dry-run")
    assert left[0] in shown.stdout
    assert site.instances() == left
    assert site.run("clean", "--yes").returncode == 0
    assert leftovers(site) == []


def test_second_ctrl_c_does_not_stop_the_cleaning_up(site: Site) -> None:
    with Terminal(site, *FORCED) as terminal:
        terminal.wait_for("Configure …")
        terminal.press_ctrl_c()
        terminal.wait_for("Configure interrupted")
        for _ in range(3):
            terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert "Interrupted." in terminal.text
    assert leftovers(site) == []


@pytest.mark.parametrize("key", QUICK)
def test_build_that_meets_a_fault_loses_and_leaves_nothing(
    site: Site, tmp_path: Path, key: str
) -> None:
    scene = Scene(site, None, tmp_path)
    row = run_case(CASES[key], scene, with_next=False)
    assert (row.wrong, row.lost) == ([], []), row.output
    assert set(row.left) <= {"a lock file"}


def test_build_after_a_killed_one_removes_what_is_left_and_makes_the_same_package(
    site: Site, tmp_path: Path
) -> None:
    row = run_case(CASES["SIGKILL: Compile"], Scene(site, None, tmp_path))
    assert row.wrong == [], row.output
    assert row.left == ["a running instance", "staged files"]
    assert (row.next_code, row.left_then) == (0, [])
