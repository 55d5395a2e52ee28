"""Commands in an instance: their output, their failures, and their end when aborted."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from executor_samples import ScriptedExecutor
from fake_lxc import FakeLxc, install_fake_lxc, instance
from plan_samples import sample_plan, sample_settings
from reporter_samples import Listener

from slurm_factory import resources
from slurm_factory.exceptions import BuildError, LXDError, VerificationError
from slurm_factory.host.facts import Daemon
from slurm_factory.instances import instance as module
from slurm_factory.instances import lxc as lxc_module
from slurm_factory.instances.instance import CommandError, Instance, Mount
from slurm_factory.instances.this_machine import HostExecutor, this_machine
from slurm_factory.util.process import (
    LONGEST_LINE,
    PIPED,
    TAIL_LINES,
    TRANSIENT,
    error_line,
    follow,
)

FAMILY = """
sleep 1000 &
echo "$$ $!"
wait
"""
NAME = "build-x"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["bash", "-c", script], **PIPED)


@pytest.fixture(autouse=True)
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLxc:
    """LXD with the instance of a build, which runs."""
    fake = install_fake_lxc(tmp_path / "bin", monkeypatch)
    fake.instances([instance(NAME, NOW)])
    return fake


def make_instance(
    executor: HostExecutor | ScriptedExecutor, cache: Path, reporter: Listener | None = None
) -> Instance:
    return Instance(
        name=NAME,
        executor=executor,
        cache_on_host=cache,
        cache=PurePosixPath("/opt/slurm-factory-cache"),
        build_dir=PurePosixPath("/srv/build"),
        mounts=(Mount(cache / "spack-sourcecache"),),
        project="slurm-factory",
        reporter=reporter,
    )


def run(executor: HostExecutor | ScriptedExecutor, on_line: Callable[[str], None]) -> None:
    make_instance(executor, Path("/c")).run(["make"], {"A": "b"}, on_line, what="make-slurm.sh")


def failure(*scripts: str) -> CommandError:
    executor = ScriptedExecutor(*scripts)
    with pytest.raises(CommandError) as caught:
        run(executor, lambda _: None)
    return caught.value


def is_dead(pid: int) -> bool:
    """Whether a process is gone, or is a zombie that its new parent has not reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C works as in a shell; programs in the background are started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_the_whole_family_of_a_process_dies_when_it_is_broken_off(
    stop: type[BaseException],
) -> None:
    family: list[int] = []

    def on_line(line: str) -> None:
        family.extend(map(int, line.split()))
        raise stop

    with pytest.raises(stop):
        follow(start(FAMILY), on_line)
    assert len(family) == 2
    while not all(map(is_dead, family)):
        os.sched_yield()


@pytest.mark.timeout(120)
def test_ctrl_c_while_a_process_is_silent_ends_it(interruptible: None) -> None:
    process = start("echo begun; exec sleep 1000")

    def on_line(_: str) -> None:
        threading.Timer(0.01, os.kill, [os.getpid(), signal.SIGINT]).start()

    with pytest.raises(KeyboardInterrupt):
        follow(process, on_line)
    assert process.returncode == -signal.SIGKILL


def test_a_process_is_out_of_reach_of_the_terminals_ctrl_c() -> None:
    lines: list[str] = []
    follow(start("cat /proc/$$/stat"), lines.append)
    # The fields after the name of the program are state, parent, group and session (proc(5)).
    session = lines[0].rpartition(")")[2].split()[3]
    assert int(session) != os.getsid(0)


def test_every_line_arrives_as_it_was_printed_also_from_stderr_and_without_an_end() -> None:
    lines: list[str] = []
    code, tail = follow(start("echo ' a '; echo; echo b >&2; printf c; exit 3"), lines.append)
    assert (code, lines, list(tail)) == (3, [" a ", "", "b", "c"], [" a ", "", "b", "c"])


def test_output_that_is_not_utf_8_neither_stops_a_build_nor_is_lost() -> None:
    lines: list[str] = []
    code, _ = follow(start(r"printf 'caf\xe9 \xff\xfe\nnext\n'"), lines.append)
    assert code == 0
    assert lines == ["caf� ��", "next"]


def test_a_process_that_reads_gets_nothing_instead_of_waiting_for_ever() -> None:
    assert follow(start("read -r answer"), lambda _: None)[0] == 1


def test_only_the_last_lines_of_a_long_output_are_kept() -> None:
    _, tail = follow(start("seq 1000"), lambda _: None)
    assert list(tail) == [str(number) for number in range(1001 - TAIL_LINES, 1001)]


@pytest.mark.parametrize(
    ("tail", "telling"),
    [
        ([], "nothing"),
        (["", "  "], "nothing"),
        (["first", "last", ""], "last"),
        (["  make[1]: *** Error 1 ", "make: leaving"], "make: leaving"),
        (["slurm.c:3:1: error: no such thing", "1 error generated"], "slurm.c:3:1: error:"),
        (["E: Unable to locate package x", "done"], "E: Unable to locate package x"),
        (["Err:1 http://x bookworm InRelease", "Reading lists"], "Err:1 http://x"),
        (["configure: error: no munge", "hint"], "configure: error: no munge"),
        (["cc: fatal: No space left on device", "make: stop"], "cc: fatal: No space left"),
        (["error: one", "error: two", "bye"], "error: two"),
    ],
)
def test_the_line_that_shows_why_is_found(tail: list[str], telling: str) -> None:
    assert error_line(tail, "nothing").startswith(telling)


def test_a_failed_command_is_a_build_error_with_its_status_and_reason() -> None:
    error = failure("echo 'x.c:1: error: no'; echo bye; exit 2")
    assert isinstance(error, BuildError)
    assert error.brief == "make-slurm.sh failed (exit status 2)."
    assert error.details == "x.c:1: error: no"
    assert (error.returncode, error.tail) == (2, ("x.c:1: error: no", "bye"))


def test_a_silent_failure_says_that_nothing_was_printed() -> None:
    assert failure("exit 1").details == "It printed nothing."


def test_a_process_killed_for_want_of_memory_is_explained() -> None:
    error = failure("echo working; exit 137")
    assert "memory" in error.details
    assert "SLURM_FACTORY_MEMORY_LIMIT" in error.resolution
    assert "--jobs" in error.resolution


def test_lxcs_transient_failure_to_start_a_command_is_survived() -> None:
    lines: list[str] = []
    reporter = Listener()
    executor = ScriptedExecutor(*[f"echo 'Error: {TRANSIENT}'; exit 255"] * 2, "echo made")
    instance = make_instance(executor, Path("/c"), reporter)
    instance.run(["make"], {"A": "b"}, lines.append, what="make-slurm.sh")
    assert executor.commands == ["make"] * 3
    assert executor.environments == [{"A": "b"}] * 3
    assert lines == ["made"], "a retried start is neither output nor an error"
    assert reporter.lines == ["lxc could not start make-slurm.sh; trying again"] * 2


def test_lxcs_transient_failure_is_not_retried_for_ever() -> None:
    error = failure(*[f"echo 'Error: {TRANSIENT}'; exit 255"] * 3)
    assert TRANSIENT in error.details


def test_what_lxc_says_about_the_last_attempt_to_start_a_command_is_not_lost() -> None:
    lines: list[str] = []
    with pytest.raises(CommandError):
        run(ScriptedExecutor(*[f"echo 'Error: {TRANSIENT}'; exit 255"] * 3), lines.append)
    assert lines == [f"Error: {TRANSIENT}"]


@pytest.mark.parametrize(
    ("there", "happened"),
    [([], "was deleted in the meantime"), ([{"status": "Stopped"}], "was stopped in the meantime")],
)
@pytest.mark.parametrize("status", [137, 255, 1])
def test_an_instance_that_somebody_ended_is_not_reported_as_want_of_memory(
    fake: FakeLxc, there: list[dict[str, str]], happened: str, status: int
) -> None:
    fake.instances([instance(NAME, NOW) | changes for changes in there])
    with pytest.raises(LXDError) as caught:
        run(ScriptedExecutor(f"exit {status}"), lambda _: None)
    assert caught.value.brief == f"make-slurm.sh was aborted: the instance {NAME} {happened}."
    assert caught.value.exit_code == 3
    assert "memory" not in f"{caught.value.details} {caught.value.resolution}".lower()


def test_an_instance_that_is_being_deleted_still_runs_when_its_commands_are_dead(
    fake: FakeLxc,
) -> None:
    deleting = {
        "class": "task",
        "status_code": 103,
        "resources": {"instances": [f"/1.0/instances/{NAME}?project=slurm-factory"]},
    }
    fake.operations([deleting], then=[])
    fake.instances([instance(NAME, NOW) | {"status": "Stopped"}])
    with pytest.raises(LXDError, match="was stopped in the meantime"):
        run(ScriptedExecutor("exit 137"), lambda _: None)
    assert len([call for call in fake.calls if call.startswith("operation")]) == 2


@pytest.mark.parametrize(
    "lost",
    [
        "Error: websocket: close 1006 (abnormal closure): unexpected EOF",
        'Error: Get "http://unix.socket/1.0": dial unix /x: connect: connection refused',
    ],
)
def test_lxd_that_was_restarted_in_the_middle_is_not_a_failure_of_the_command(
    fake: FakeLxc, lost: str
) -> None:
    fake.instances([instance(NAME, NOW)])
    with pytest.raises(LXDError, match="the connection to LXD was lost") as caught:
        run(ScriptedExecutor(f"echo compiling; echo '{lost}'; exit 1"), lambda _: None)
    assert "restarted" in caught.value.details


def test_lxd_that_is_gone_in_the_middle_is_reported_as_that(
    fake: FakeLxc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lxc_module, "socket_state", lambda: Daemon.STOPPED)
    fake.fail("local:", "Error: dial unix /var/lib/lxd/unix.socket: connect: connection refused")
    with pytest.raises(LXDError, match="LXD does not answer any more") as caught:
        run(ScriptedExecutor("echo 'Error: websocket: close 1006'; exit 137"), lambda _: None)
    assert "does not run" in caught.value.details
    assert "slurm-factory setup" in caught.value.resolution


def test_line_that_does_not_end_comes_in_parts_and_not_at_its_end() -> None:
    sizes: list[int] = []
    process = start("head -c 300000 /dev/zero | tr '\\0' x")
    assert follow(process, lambda line: sizes.append(len(line)))[0] == 0
    assert sum(sizes) == 300_000
    assert max(sizes) == LONGEST_LINE


def test_a_real_failure_is_not_run_again() -> None:
    assert failure("echo once; exit 1").tail == ("once",)


def test_paths_of_the_cache_are_translated_and_others_refused(tmp_path: Path) -> None:
    instance = make_instance(HostExecutor({}), tmp_path)
    seen = instance.inside(tmp_path / "spack-sourcecache/x")
    assert str(seen) == "/opt/slurm-factory-cache/spack-sourcecache/x"
    for path in (tmp_path / "builds", tmp_path, Path("/etc")):
        with pytest.raises(ValueError, match="no instance sees"):
            instance.inside(path)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Instance]:
    with this_machine(sample_plan().base, sample_settings(tmp_path), tmp_path / "work") as instance:
        yield instance


def test_directory_and_file_come_out_of_an_instance(machine: Instance, tmp_path: Path) -> None:
    tree = Path(machine.build_dir) / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"\xff\0content")
    (tree / "link").symlink_to("file")
    machine.take_directory(machine.build_dir / "tree", tmp_path / "taken", links=True)
    assert (tmp_path / "taken/link").read_bytes() == b"\xff\0content"
    assert machine.take_file(machine.build_dir / "tree/file") == b"\xff\0content"
    (tree / "empty").touch()
    assert machine.take_file(machine.build_dir / "tree/empty") == b""
    with pytest.raises(VerificationError, match="link is a link"):
        machine.take_directory(machine.build_dir / "tree", tmp_path / "without")


def test_file_that_is_too_large_or_missing_is_one_clear_error(machine: Instance) -> None:
    with pytest.raises(VerificationError, match=r"/dev/zero is larger than 1 MiB"):
        machine.take_file(PurePosixPath("/dev/zero"), 1 << 20)
    with pytest.raises(CommandError) as caught:
        machine.take_file(PurePosixPath("/missing"))
    assert caught.value.details == "cat: /missing: No such file or directory"


def take(*scripts: str) -> bytes:
    return make_instance(ScriptedExecutor(*scripts), Path("/c")).take_file(PurePosixPath("/f"))


def test_lxc_that_cannot_start_is_started_again_and_nothing_comes_twice() -> None:
    transient = f"echo 'Error: {TRANSIENT}' >&2; exit 255"
    assert take(transient, "printf content") == b"content"
    with pytest.raises(CommandError):
        take("printf some; " + transient, "printf content")
    with pytest.raises(CommandError):
        take(transient, transient, transient)


def test_stream_that_ends_because_the_instance_is_gone_is_reported_as_that(
    fake: FakeLxc, tmp_path: Path
) -> None:
    instance = make_instance(ScriptedExecutor("printf cut; exit 1"), tmp_path)
    fake.instances([])
    with pytest.raises(LXDError, match="was deleted in the meantime"):
        instance.take_directory(PurePosixPath("/tree"), tmp_path / "taken")


def test_stream_that_lxd_cuts_short_is_a_failure_and_no_attack(tmp_path: Path) -> None:
    script = "head -c 100 /dev/zero; echo 'Error: websocket: close 1006' >&2; exit 1"
    instance = make_instance(ScriptedExecutor(script), tmp_path)
    with pytest.raises(LXDError, match="the connection to LXD was lost"):
        instance.take_directory(PurePosixPath("/tree"), tmp_path / "taken")


def test_errors_without_end_do_not_fill_the_memory() -> None:
    done = take("head -c 3000000 /dev/zero | tr '\\0' x >&2; printf content")
    assert done == b"content"


def test_instance_that_sends_nothing_more_is_left_with_ctrl_c(tmp_path: Path) -> None:
    executor = ScriptedExecutor("printf x; exec sleep 1000")
    instance = make_instance(executor, tmp_path)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        instance.take_file(PurePosixPath("/f"))


def test_the_command_that_enters_a_kept_instance_names_project_and_instance() -> None:
    instance = make_instance(HostExecutor({}), Path("/c"))
    assert instance.enter_command == "lxc --project slurm-factory exec local:build-x -- bash -l"


def test_a_script_runs_while_another_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As what takes finished packages out does while Spack builds the next."""
    scripts = {
        "build.sh": """
            echo go
            for ((i = 0; i < 600; i++)); do
                if [[ -e $DONE ]]; then exit; fi
                sleep 0.1
            done
            exit 1""",
        "take.sh": 'touch "$DONE"',
    }
    monkeypatch.setattr(resources, "script", scripts.__getitem__)
    monkeypatch.setattr(module, "SCRIPT_LOCKS", PurePosixPath(tmp_path))
    machine = make_instance(HostExecutor(PLAIN), tmp_path)
    done = {"DONE": tmp_path / "done"}

    def take(_: str) -> None:
        machine.run_script("take.sh", done, Listener().line)

    machine.run_script("build.sh", done, take)
    assert {path.name for path in tmp_path.glob("*.lock")} == {
        "slurm-factory-build.sh.lock",
        "slurm-factory-take.sh.lock",
    }


def test_a_script_gets_its_parameters_by_the_environment_only(tmp_path: Path) -> None:
    with this_machine(sample_plan().base, sample_settings(tmp_path), tmp_path / "work") as instance:
        archive = tmp_path / 'it\'s; $(touch pwned) "x".tar.gz'
        source = tmp_path / "source"
        (tmp_path / "slurm-1").mkdir()
        (tmp_path / "slurm-1/file").write_text("old\n")
        subprocess.run(["tar", "-czf", archive, "-C", tmp_path, "slurm-1"], check=True)
        environment = {"ARCHIVE": archive, "SOURCE": source, "PATCHES": tmp_path}
        instance.run_script("unpack-slurm.sh", {**environment, "PATCH_NAMES": ""}, print)
    assert (source / "file").read_text() == "old\n"
    assert not list(tmp_path.rglob("pwned"))


def test_this_machine_is_an_instance_that_cannot_be_entered_and_leaks_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-march=native")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    lines: list[str] = []
    with this_machine(sample_plan().base, sample_settings(tmp_path), tmp_path / "work") as instance:
        instance.run(["env"], {"JOBS": "2"}, lines.append, what="env")
    found = dict(line.split("=", 1) for line in lines)
    assert not {"CFLAGS", "LD_LIBRARY_PATH"} & found.keys()
    assert found["https_proxy"] == found["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert (found["LC_ALL"], found["TZ"], found["JOBS"]) == ("C.UTF-8", "UTC", "2")
    assert found["HOME"] == str(tmp_path / "work")
    assert instance.enter_command is None
    seen = replace(instance, mounts=(Mount(tmp_path),))
    assert seen.inside(tmp_path / "x") == PurePosixPath(tmp_path / "x")


def test_the_executor_of_this_machine_sets_and_unsets_variables() -> None:
    executor = HostExecutor({**PLAIN, "A": "1", "B": "2"})
    done = executor.execute_run(
        ["bash", "-c", "echo $A ${B-unset}"],
        env={"A": "3", "B": None},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "3 unset\n"
    with pytest.raises(subprocess.CalledProcessError):
        executor.execute_run(["false"], check=True)


def test_this_machine_as_an_instance_needs_no_craft_providers() -> None:
    code = (
        "import sys, slurm_factory.instances.this_machine; print('craft_providers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


SECRET = "geheim'; $(touch pwned) #"


def test_a_proxys_password_stands_in_no_command_line(fake: FakeLxc, tmp_path: Path) -> None:
    """As in LXD: what an executor is given as environment becomes a part of a command line."""

    class LikeLxc(ScriptedExecutor):
        def execute_popen(self, command: list[str], **kwargs: Any) -> subprocess.Popen[str]:
            env = kwargs.pop("env", None) or {}
            seen.extend([*command, *(f"{key}={value}" for key, value in env.items())])
            given = [f"{key}={value}" for key, value in env.items()]
            return subprocess.Popen(["env", *given, *command], cwd=tmp_path, **kwargs)

    look = """
    tr '\\0' ' ' < /proc/$$/cmdline | grep -c geheim
    tr '\\0' ' ' < /proc/$PPID/cmdline | grep -c geheim
    printf '%s\\n' "$https_proxy" "$A"
    read -r more || echo "nothing more"
    """.replace("geheim", "gehei[m]")
    seen: list[str] = []
    lines: list[str] = []
    secrets = {"http_proxy": "http://p:1", "https_proxy": f"http://u:{SECRET}@p:1"}
    place = replace(make_instance(LikeLxc(), Path("/c")), secrets=secrets)
    place.run(["bash", "-c", look], {"A": "b"}, lines.append, what="look")
    assert lines == ["0", "0", secrets["https_proxy"], "b", "nothing more"]
    assert not [word for word in seen if "geheim" in word]
    assert not list(tmp_path.rglob("pwned"))
