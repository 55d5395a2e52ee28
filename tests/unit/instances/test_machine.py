"""Scripts of a verification run with limits, and fail with what they said last."""

from dataclasses import replace
from pathlib import Path

import pytest

from slurm_factory.instances import machine as module
from slurm_factory.instances.machine import Machine, ScriptError

HERE = Machine(wait=1)


def test_output_of_a_script_comes_back() -> None:
    assert HERE.run_text("greet", 'echo "$1 $NAME"', "good", NAME="day") == "good day\n"


def test_script_has_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/mine")
    assert HERE.run_text("environment", 'echo "${SLURM_CONF-none}"') == "none\n"


def test_last_line_of_a_failed_script_is_the_reason() -> None:
    with pytest.raises(ScriptError) as caught:
        HERE.run_text("broken", 'echo first; fail "no such tree"')
    assert (caught.value.brief, caught.value.details) == ("broken failed.", "no such tree")
    assert caught.value.output.splitlines() == ["first", "no such tree"]


def test_silent_failure_is_told_by_its_status() -> None:
    with pytest.raises(ScriptError) as caught:
        HERE.run_text("silent", "exit 3")
    assert caught.value.details == "Exit status 3."


def test_waiting_ends() -> None:
    with pytest.raises(ScriptError, match="timed out waiting for a miracle"):
        HERE.run_text("patient", 'wait_for "a miracle" false')


def test_daemon_that_has_ended_is_not_waited_for() -> None:
    patient = Machine(wait=3600)
    with pytest.raises(ScriptError, match="no-such-daemon has ended"):
        patient.run_text("dead", "wait_for_daemon no-such-daemon false")


def test_script_that_does_not_end_is_killed() -> None:
    hasty = replace(HERE, seconds=0.5)
    with pytest.raises(ScriptError, match="did not end in time"):
        hasty.run_text("endless", "trap '' TERM INT; while :; do sleep 1; done")


def test_output_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_OUTPUT", 1000)
    with pytest.raises(ScriptError):
        HERE.run_text("flood", "yes")


def test_secrets_reach_the_script_and_no_command_line(tmp_path: Path) -> None:
    machine = Machine(wait=1, secrets={"http_proxy": "http://user:pass word@proxy"})
    script = 'echo "${http_proxy}"; cat "/proc/$$/cmdline" | tr "\\0" " "'
    said = machine.run_text("secret", script)
    assert said.count("pass word") == 1


def test_what_has_left_the_session_does_not_keep_a_script_from_ending() -> None:
    said = HERE.run_text("daemon", "setsid sleep 20 & echo done")
    assert said == "done\n"


def test_script_that_cannot_check_anything_says_so_by_its_status() -> None:
    with pytest.raises(ScriptError, match="skipped: no GPU here") as caught:
        HERE.run_text("check", 'skip "no GPU here"')
    assert caught.value.status == 77
