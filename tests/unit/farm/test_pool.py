"""The pool, with shell scripts in place of builds."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from slurm_factory.exceptions import LXDError, OutputError
from slurm_factory.farm import pool as pools
from slurm_factory.farm.children import Child, Event, Result, State
from slurm_factory.farm.pool import Pool, Rules, Watcher, made_by
from slurm_factory.farm.schedule import Room, Schedule, Task
from slurm_factory.util.process import which

GOOD = """echo '{"up_to_date": false, "manifest_path": "/x"}'"""
FAILED = """echo '{"error": {"kind": "SpackError", "exit_code": 5, "brief": "No."}}'; exit 5"""
LOST = """echo '{"error": {"kind": "MemberLostError", "exit_code": 3, "brief": "Gone."}}'; exit 3"""
LAUNCHED = (
    """echo '{"event": "step-end", "name": "Launch", "outcome": "done"}'"""
    """ >> "$SLURM_FACTORY_EVENTS_FILE" """
)


class Seen(Watcher):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def began(self, child: Child) -> None:
        self.told.append(f"{child.name} began")

    def ended(self, name: str, result: Result) -> None:
        self.told.append(f"{name} {result.state}")

    def again(self, name: str, result: Result) -> None:
        self.told.append(f"{name} again")


def make_pool(
    tmp_path: Path,
    scripts: Mapping[str, str],
    *,
    at_once: int = 9,
    shares: Mapping[str, str] | None = None,
    rules: Rules | None = None,
) -> Pool:
    """A pool of shell scripts by name, the first of which is the longest."""
    tasks = [
        Task(name, 100 - number, shares=frozenset({(shares or {}).get(name, f"base {name}")}))
        for number, name in enumerate(scripts)
    ]
    return Pool(
        Schedule(tasks, Room(at_once, 99, 99, 99)),
        {name: ["sh", "-c", script] for name, script in scripts.items()},
        tmp_path,
        Seen(),
        rules or Rules(),
        {**os.environ, "GITHUB_STEP_SUMMARY": "/nowhere", "RECORD": str(tmp_path / "record")},
    )


def seen(pool: Pool) -> list[str]:
    assert isinstance(pool.watcher, Seen)
    return pool.watcher.told


def record(tmp_path: Path) -> list[str]:
    return (tmp_path / "record").read_text().split()


def test_failure_stops_nothing_else(tmp_path: Path) -> None:
    results = make_pool(tmp_path, {"a": FAILED, "b": GOOD, "c": GOOD}, at_once=1).run()
    assert {name: result.state for name, result in results.items()} == {
        "a": State.FAILED,
        "b": State.BUILT,
        "c": State.BUILT,
    }
    assert results["a"].exit_code == 5
    assert (results["a"].error or {})["brief"] == "No."
    assert (results["b"].document or {})["manifest_path"] == "/x"


def test_as_many_run_at_once_as_allowed(tmp_path: Path) -> None:
    script = f'echo + >> "$RECORD"; sleep 0.5; echo - >> "$RECORD"; {GOOD}'
    make_pool(tmp_path, dict.fromkeys("abcdef", script), at_once=2).run()
    running = most = 0
    for mark in record(tmp_path):
        running += 1 if mark == "+" else -1
        most = max(most, running)
    assert most == 2


def test_what_a_group_shares_is_made_once_while_other_groups_go_on(tmp_path: Path) -> None:
    made = '[ -e "$RECORD.{0}" ] || {{ echo made-{0} >> "$RECORD"; sleep 1; touch "$RECORD.{0}"; }}'
    scripts = {
        f"{group}{number}": f"{made.format(group)}; {LAUNCHED}; sleep 0.5; {GOOD}"
        for number in range(3)
        for group in "xy"
    }
    pool = make_pool(tmp_path, scripts, shares={name: f"base {name[0]}" for name in scripts})
    results = pool.run()
    assert {result.state for result in results.values()} == {State.BUILT}
    assert sorted(record(tmp_path)) == ["made-x", "made-y"]
    assert seen(pool)[:2] == ["x0 began", "y0 began"]
    # The others began when it was made, not when the first had ended.
    assert seen(pool).index("x1 began") < seen(pool).index("x0 built")


def test_events_show_what_is_made() -> None:
    shares = frozenset({"base b", "packages p"})

    def made(kind: str, **facts: object) -> set[str]:
        return set(made_by(Event(kind, facts), shares))

    assert made("step-end", name="Launch", outcome="done") == {"base b"}
    assert made("step-end", name="Launch", outcome="failed") == set()
    assert made("step-end", name="Build packages", outcome="done") == {"packages p"}
    assert made("packages", done=22, total=23) == {"packages p"}
    assert made("packages", done=21, total=23) == set()
    assert made("step-start", name="Launch") == set()


def test_fail_fast_begins_no_others_and_lets_those_that_run_end(tmp_path: Path) -> None:
    scripts = {"a": FAILED, "b": f"sleep 1; {GOOD}", "c": GOOD, "d": GOOD}
    results = make_pool(tmp_path, scripts, at_once=2, rules=Rules(fail_fast=True)).run()
    states = [results[name].state for name in "abcd"]
    assert states == [State.FAILED, State.BUILT, State.NOT_RUN, State.NOT_RUN]


def test_cell_whose_machine_was_lost_is_started_again(tmp_path: Path) -> None:
    script = f'echo x >> "$RECORD"; [ "$(wc -l < "$RECORD")" -gt 2 ] && {GOOD} || {{ {LOST}; }}'
    pool = make_pool(tmp_path, {"a": script})
    result = pool.run()["a"]
    assert (result.state, result.attempts) == (State.BUILT, 3)
    assert seen(pool) == ["a began", "a again", "a began", "a again", "a began", "a built"]


def test_cell_whose_machine_is_always_lost_fails_after_two_more_attempts(tmp_path: Path) -> None:
    result = make_pool(tmp_path, {"a": f'echo x >> "$RECORD"; {LOST}'}).run()["a"]
    assert (result.state, result.attempts, result.exit_code) == (State.FAILED, 3, 3)
    assert len(record(tmp_path)) == 3


@pytest.mark.parametrize(
    ("script", "brief", "details"),
    [
        ("kill -9 $$", "It was ended by SIGKILL.", "The kernel does so where memory is short."),
        ("echo no document; exit 4", "It ended with exit code 4 and without a result.", ""),
        ("exit 0", "It ended with exit code 0 and without a result.", ""),
        ("echo '[1]'", "It ended with exit code 0 and without a result.", ""),
    ],
)
def test_child_without_a_result_has_failed(
    tmp_path: Path, script: str, brief: str, details: str
) -> None:
    result = make_pool(tmp_path, {"a": script}).run()["a"]
    assert result.state is State.FAILED
    assert result.exit_code > 0
    assert ((result.error or {})["brief"], (result.error or {})["details"]) == (brief, details)


def test_child_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "GRACE", 0.5)
    scripts = {"a": "trap '' TERM; while :; do sleep 1; done", "b": GOOD}
    results = make_pool(tmp_path, scripts, at_once=1, rules=Rules(limit=0.5)).run()
    assert results["a"].state is State.FAILED
    assert "did not end in time" in (results["a"].error or {})["brief"]
    assert results["b"].state is State.BUILT


def interrupt(tmp_path: Path, *after: float) -> None:
    """Send SIGINT to this process when the first child runs, and again."""

    def send() -> None:
        while not (tmp_path / "record").exists():
            time.sleep(0.05)
        for seconds in after:
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()


def test_interrupt_lets_children_clean_up_and_begins_no_others(tmp_path: Path) -> None:
    script = 'trap "echo cleaned >> $RECORD; exit 130" TERM; echo x >> "$RECORD"; sleep 30 & wait'
    interrupt(tmp_path, 0.3)
    pool = make_pool(tmp_path, {"a": script, "b": GOOD}, at_once=1)
    results = pool.run()
    assert [results[name].state for name in "ab"] == [State.INTERRUPTED, State.NOT_RUN]
    assert record(tmp_path) == ["x", "cleaned"]
    assert pool.interrupts == 1


def test_second_interrupt_kills(tmp_path: Path) -> None:
    script = "trap '' TERM; echo x >> \"$RECORD\"; while :; do sleep 0.2; done"
    interrupt(tmp_path, 0.3, 0.5)
    began = time.monotonic()
    results = make_pool(tmp_path, {"a": script}).run()
    assert results["a"].state is State.INTERRUPTED
    assert time.monotonic() - began < 30


def test_interrupt_reaches_the_parent_only(tmp_path: Path) -> None:
    """Each child has a session of its own: the terminal sends Ctrl-C to no child."""
    make_pool(tmp_path, {"a": f'ps -o sid= -p $$ > "$RECORD"; {GOOD}'}).run()
    assert int(record(tmp_path)[0]) != os.getsid(0)


@pytest.mark.skipif(which("setpriv") is None, reason="setpriv(1) is missing")
def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        from pathlib import Path
        from slurm_factory.farm.pool import Pool
        from slurm_factory.farm.schedule import Room, Schedule, Task
        script = 'trap "echo ended >> {tmp_path}/record; exit" TERM; ' \\
            'echo begun >> {tmp_path}/record; while :; do sleep 0.1; done'
        schedule = Schedule([Task("a", 1)], Room(1, 9, 9, 9))
        Pool(schedule, {{"a": ["sh", "-c", script]}}, Path({str(tmp_path)!r})).run()
    """)
    parent = subprocess.Popen([sys.executable, "-c", program])
    wait_for(tmp_path, "begun")
    parent.kill()
    parent.wait()
    wait_for(tmp_path, "ended")


def wait_for(tmp_path: Path, word: str) -> None:
    for _ in range(300):
        if (tmp_path / "record").exists() and word in record(tmp_path):
            return
        time.sleep(0.1)
    pytest.fail(f"no {word}")


def test_nothing_begins_where_no_build_can_succeed(tmp_path: Path) -> None:
    def usable() -> None:
        raise OutputError("The cache is full.", details="No space left on device.")

    results = make_pool(
        tmp_path, {"a": FAILED, "b": GOOD}, at_once=1, rules=Rules(usable=usable)
    ).run()
    assert [results[name].state for name in "ab"] == [State.FAILED, State.NOT_RUN]
    assert (results["b"].error or {})["brief"] == "The cache is full."
    assert (results["b"].error or {})["exit_code"] == 7


def test_cells_wait_while_a_cluster_does_not_answer_and_one_that_it_failed_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "AGAIN", 0.01)
    answers = iter([False, False, True])

    def usable() -> None:
        if not next(answers, True):
            raise LXDError("The database has no leader.")

    away = LOST.replace("MemberLostError", "LXDError")
    script = f'echo x >> "$RECORD"; [ "$(wc -l < "$RECORD")" -gt 1 ] && {GOOD} || {{ {away}; }}'
    rules = Rules(usable=usable, patience=60)
    results = make_pool(tmp_path, {"a": script, "b": GOOD}, at_once=1, rules=rules).run()
    assert [results[name].state for name in "ab"] == [State.BUILT, State.BUILT]
    assert results["a"].attempts == 2


def test_cells_do_not_wait_for_ever_for_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "AGAIN", 0.01)

    def usable() -> None:
        raise LXDError("The database has no leader.")

    rules = Rules(usable=usable, patience=0.3)
    results = make_pool(tmp_path, {"a": FAILED, "b": GOOD}, at_once=1, rules=rules).run()
    assert [results[name].state for name in "ab"] == [State.FAILED, State.NOT_RUN]
    assert (results["b"].error or {})["brief"] == "The database has no leader."


def test_cells_without_room_on_the_disk_are_not_run_and_told_so(tmp_path: Path) -> None:
    answers = iter([True, False, False])
    rules = Rules(has_room=lambda: next(answers, False))
    results = make_pool(tmp_path, {"a": GOOD, "b": GOOD}, at_once=1, rules=rules).run()
    assert [results[name].state for name in "ab"] == [State.BUILT, State.NOT_RUN]
    assert "no room on the disk" in (results["b"].error or {})["brief"]


def test_directory_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pool = make_pool(tmp_path, {"a": GOOD, "b": GOOD})
    pool.directory = tmp_path / "file"
    results = pool.run()
    assert [results[name].state for name in "ab"] == [State.NOT_RUN, State.NOT_RUN]
    assert (results["a"].error or {})["exit_code"] == 7


def test_children_leave_the_output_of_a_workflow_to_the_matrix(tmp_path: Path) -> None:
    script = f'echo "x${{GITHUB_STEP_SUMMARY:-none}}" > "$RECORD"; {GOOD}'
    make_pool(tmp_path, {"a": script}).run()
    assert record(tmp_path) == ["xnone"]


def test_broken_events_do_no_harm(tmp_path: Path) -> None:
    broken = 'printf \'no json\\n[]\\n{"event": "packages"}\\n{"event"\''
    script = f'{broken} >> "$SLURM_FACTORY_EVENTS_FILE"; sleep 0.5; {GOOD}'
    assert make_pool(tmp_path, {"a": script}).run()["a"].state is State.BUILT
