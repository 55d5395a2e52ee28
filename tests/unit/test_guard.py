"""The rules of tests/conftest.py."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from guard import GuardError

TESTS = Path(__file__).parents[1]
SKIPPED = """
import conftest
import pytest

@pytest.mark.integration
@pytest.mark.parametrize("required", [True, False])
def test_container(monkeypatch, required):
    monkeypatch.setattr(conftest, "CONTAINER_TESTS_REQUIRED", required)
    pytest.skip("no LXD here")
"""


@pytest.mark.parametrize(
    "command",
    [
        ["mount", "--version"],
        ["/bin/mount", "--version"],
        ["env", "mount", "--version"],
        ["sh", "-c", "true | mount --version"],
    ],
)
def test_unit_test_cannot_run_a_program_that_changes_the_machine(command: list[str]) -> None:
    with pytest.raises(GuardError, match="mount"):
        subprocess.run(command, check=False)


def test_unit_test_may_run_a_stand_in_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lxc = tmp_path / "lxc"
    lxc.write_text("#!/bin/sh\necho stand-in\n")
    lxc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(["lxc", "list"], capture_output=True, text=True, check=True)
    assert done.stdout == "stand-in\n"


def test_unit_test_may_run_a_compiler() -> None:
    assert subprocess.run(["gcc", "--version"], capture_output=True, check=True).stdout


@pytest.mark.parametrize("address", ["192.0.2.1", "debian.org"])
def test_unit_test_cannot_leave_the_loopback_network(address: str) -> None:
    with pytest.raises(GuardError, match=address):
        socket.create_connection((address, 80), timeout=0.1)


def test_unit_test_cannot_speak_with_lxd() -> None:
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(GuardError, match="lxd"):
        client.connect("/var/lib/lxd/unix.socket")


def test_unit_test_cannot_see_the_home_and_settings_of_who_runs_it() -> None:
    assert list(Path.home().iterdir()) == []
    assert not [name for name in os.environ if name.startswith(("SLURM_", "XDG_"))]


def test_skipped_container_test_fails_only_where_it_is_required(tmp_path: Path) -> None:
    test = tmp_path / "test_skipped.py"
    test.write_text(SKIPPED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = integration\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "conftest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            test,
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{TESTS}:{TESTS / 'support'}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 skipped" in done.stdout
    assert "forbids to skip this test: Skipped: no LXD here" in " ".join(done.stdout.split())
