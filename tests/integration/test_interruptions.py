"""A build that is interrupted, or whose disk fills up, leaves nothing but the caches.

That builds work after each of these is seen by the next, which gets further.
"""

import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fault_tools import (
    MINIMAL,
    Site,
    Terminal,
    assert_one_message,
    in_memory_mebibytes,
    make_cache,
    source_in,
)
from file_systems import fill, small_file_system

from slurm_factory.config import Settings

pytestmark = pytest.mark.integration

STEPS = ("Launch", "Configure", "Compile", "Pack")
"""Installing runs in the instance, as compiling does. What follows it runs on this machine alone
and is one case: the last stands for it."""


NEEDED_MEBIBYTES = 1100
"""A little more than a build asks for at the start."""


def test_clean_removes_what_a_killed_build_leaves(site: Site) -> None:
    with Terminal(site, *MINIMAL, "--force") as terminal:
        terminal.wait_for("Compile …")
        terminal.process.kill()
        terminal.process.wait()
    left = site.instances()
    assert len(left) == 1
    shown = site.run("clean", "--dry-run")
    assert left[0] in shown.stdout
    assert site.instances() == left
    assert site.run("clean", "--yes").returncode == 0
    assert site.instances() == []
    assert site.staged() == []


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_leaves_neither_instance_nor_artifact_and_keeps_the_caches(
    site: Site, step: str
) -> None:
    before = site.published()
    with Terminal(site, *MINIMAL, "--force") as terminal:
        terminal.wait_for(f"{step} …")
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    _assert_nothing_left(site, terminal, before)


def test_second_ctrl_c_does_not_stop_the_cleaning_up(site: Site) -> None:
    before = site.published()
    with Terminal(site, *MINIMAL, "--force") as terminal:
        terminal.wait_for("Configure …")
        terminal.press_ctrl_c()
        terminal.wait_for("Configure interrupted")
        for _ in range(3):
            terminal.press_ctrl_c()
        assert terminal.finish() == 130
    _assert_nothing_left(site, terminal, before)


def test_signal_to_the_program_alone_ends_it_as_ctrl_c_does(site: Site) -> None:
    before = site.published()
    with Terminal(site, *MINIMAL, "--force") as terminal:
        terminal.wait_for("Configure …")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.finish() == 130
    _assert_nothing_left(site, terminal, before)


def test_cache_directory_that_fills_up_is_reported_and_leaves_no_artifact(
    lxd: Settings, site: Site, tmp_path: Path
) -> None:
    warmth = in_memory_mebibytes(site.cache / "ccache")
    with small_file_system(tmp_path / "small", NEEDED_MEBIBYTES + warmth) as directory:
        make_cache(directory, lxd, site.cache / "ccache")
        place = replace(site, cache=directory)
        with Terminal(place, *MINIMAL) as terminal:
            terminal.wait_for("Compile …")
            fill(directory)
            code = terminal.finish()
        done = subprocess.CompletedProcess((), code, "", terminal.text.replace("\r", ""))
        assert_one_message(done, 7, "could not be written|is full")
        assert place.published() == []
        assert place.run("clean", "--yes").returncode == 0
        assert place.instances() == []
        assert place.staged() == []


def _assert_nothing_left(site: Site, terminal: Terminal, published: list[str]) -> None:
    assert "Traceback" not in terminal.text, terminal.text
    assert "Interrupted." in terminal.text
    assert site.instances() == []
    assert site.staged() == []
    assert site.published() == published
    assert source_in(site.cache).exists()
    assert len(site.bases()) == 1
