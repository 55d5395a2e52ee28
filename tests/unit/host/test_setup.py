import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from host_samples import ALICE, FRESH, READY, READY_LXD
from paths import REPOSITORY
from typer.testing import CliRunner

from slurm_factory.cache_dir import MARK, TAG, make_cache_dir
from slurm_factory.config import Settings
from slurm_factory.exceptions import DownloadError, LXDError, OutputError
from slurm_factory.host import setup as run_setup
from slurm_factory.host import setup_steps as plan
from slurm_factory.host.facts import HostFacts, Privilege
from slurm_factory.host.setup import SetupResult, elevated, setup
from slurm_factory.host.setup_steps import Command, SetupStep, proxy_step
from slurm_factory.main import app
from slurm_factory.resources import host_script

PROXY = "http://me:s3cret@proxy.example:3128"
ROOTED = replace(READY, privilege=Privilege.ROOT)


class Machine:
    """Steps that run real, harmless programs; a step is done once its file exists."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.facts: HostFacts = ROOTED
        self.steps: list[tuple[Path, SetupStep]] = []
        self.settings = Settings(cache_dir=directory / "cache")
        self.reported: list[str] = []
        self.has_instances = True
        monkeypatch.setattr(run_setup, "probe", lambda: self.facts)
        monkeypatch.setattr(run_setup, "has_instances", lambda *_: self.has_instances)
        monkeypatch.setattr(run_setup, "plan_setup", self.plan)

    def plan(self, facts: HostFacts) -> tuple[SetupStep, ...]:
        return tuple(replace(step, needed=not mark.exists()) for mark, step in self.steps)

    def add(self, name: str, *command: str, required: bool = True) -> Path:
        mark = self.directory / name
        commands: tuple[Command, ...] = (command or ("touch", str(mark)),)
        step = SetupStep(name, needed=True, why="missing", commands=commands, required=required)
        self.steps.append((mark, step))
        return mark

    def run(self, *, check: bool = False) -> SetupResult:
        return setup(self.settings, self.reported.append, check=check)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_steps_are_taken_in_order_and_none_twice(machine: Machine) -> None:
    first, second = machine.add("first"), machine.add("second")
    result = machine.run()
    assert first.exists()
    assert second.exists()
    assert machine.reported == ["first: missing", "second: missing"]
    assert result.ready
    assert [step.needed for step in result.steps] == [True, True]
    again = machine.run()
    assert [step.needed for step in again.steps] == [False, False]
    assert len(machine.reported) == 2


def test_check_changes_nothing_and_shows_what_is_missing(machine: Machine) -> None:
    mark = machine.add("first")
    result = machine.run(check=True)
    assert not mark.exists()
    assert not result.ready
    assert not machine.settings.cache_dir.exists()


def test_output_of_commands_goes_to_the_log_and_not_to_the_screen(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    mark = machine.directory / "noisy"
    machine.add("noisy", "sh", "-c", f"echo thousand lines; touch {mark}")
    result = machine.run()
    assert result.log is not None
    assert "thousand lines" in result.log.read_text()
    assert capfd.readouterr() == ("", "")


def test_setup_makes_the_cache_for_its_owner_alone(machine: Machine) -> None:
    machine.add("first")
    log = machine.run().log
    assert log is not None
    assert machine.settings.cache_dir.stat().st_mode & 0o777 == 0o700
    assert log.stat().st_mode & 0o777 == 0o600


def test_log_that_others_could_read_is_closed_to_them(machine: Machine) -> None:
    make_cache_dir(machine.settings)
    machine.settings.logs_dir.mkdir(parents=True)
    log = machine.settings.logs_dir / "setup.log"
    log.touch(0o644)
    machine.add("first")
    machine.run()
    assert log.stat().st_mode & 0o777 == 0o600


def test_log_that_is_a_link_is_refused_and_nothing_is_written_behind_it(machine: Machine) -> None:
    elsewhere = machine.directory / "elsewhere"
    elsewhere.write_text("somebody else's")
    make_cache_dir(machine.settings)
    machine.settings.logs_dir.mkdir(parents=True)
    (machine.settings.logs_dir / "setup.log").symlink_to(elsewhere)
    machine.add("step")
    with pytest.raises(OutputError, match=r"setup\.log"):
        machine.run()
    assert elsewhere.read_text() == "somebody else's"


def test_log_that_cannot_be_written_causes_no_traceback(machine: Machine) -> None:
    make_cache_dir(machine.settings)
    (machine.settings.logs_dir / "setup.log").mkdir(parents=True)
    machine.add("first")
    with pytest.raises(OutputError, match=r"setup\.log"):
        machine.run()


def test_cache_below_a_directory_that_cannot_be_entered_causes_no_traceback(
    machine: Machine, close_to_us: Callable[[Path], None]
) -> None:
    machine.add("step", "true")
    close_to_us(machine.settings.cache_dir)
    with pytest.raises(OutputError) as caught:
        machine.run()
    assert caught.value.details == "Permission denied."


@pytest.mark.parametrize("there", [True, False])
def test_what_sudo_makes_in_a_users_cache_belongs_to_the_user(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    user = os.getuid() or 4711
    os.chown(machine.directory, user, -1)
    cache, logs = machine.settings.cache_dir, machine.settings.logs_dir
    if there:
        cache.mkdir()
        os.chown(cache, user, -1)
    made = [logs / "setup.log", cache / MARK, cache / TAG, logs, *([] if there else [cache])]
    assert given_away(machine, monkeypatch, user) == [(path, user, 4712) for path in made]


def test_root_who_builds_after_setup_under_sudo_finds_a_cache_of_his_own(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert given_away(machine, monkeypatch, os.getuid() + 4711) == []
    make_cache_dir(machine.settings)


def given_away(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, user: int
) -> list[tuple[Path, int, int]]:
    """What setup gives to whom when a user with this id calls it by sudo."""
    given: list[tuple[Path, int, int]] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 0)
        patch.setattr(os, "chown", lambda path, uid, gid, **_: given.append((path, uid, gid)))
        machine.facts = replace(ROOTED, account=replace(ALICE, uid=user, gid=4712))
        machine.add("first")
        machine.run()
    return given


def test_setup_writes_no_log_into_a_directory_that_is_not_a_cache(machine: Machine) -> None:
    (machine.settings.cache_dir / "work/thesis").mkdir(parents=True)
    machine.add("first")
    with pytest.raises(OutputError, match="It is not empty"):
        machine.run()
    assert [path.name for path in machine.settings.cache_dir.iterdir()] == ["work"]


def test_a_user_keeps_what_setup_makes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "chown", None)
    mark = machine.add("first")
    monkeypatch.setattr(run_setup, "elevated", lambda command, **_: command)
    machine.run()
    assert mark.exists()


def test_password_of_a_proxy_reaches_lxd_and_neither_a_command_line_nor_the_log(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = machine.directory / "proxy"
    lxc = machine.directory / "bin" / "lxc"
    lxc.parent.mkdir()
    lxc.write_text(f'#!/bin/sh\n{{ echo "$*"; cat; }} > {mark}\n')
    lxc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{lxc.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    [command] = proxy_step(replace(READY, lxd=READY_LXD, proxies={"http_proxy": PROXY})).commands
    machine.add("proxy", *command)
    result = machine.run()
    assert mark.read_text() == f"--project default config set local: core.proxy_http -\n{PROXY}"
    assert result.log is not None
    monkeypatch.setattr(run_setup, "setup", lambda *_, **__: result)
    printed = CliRunner().invoke(app, ["setup", "--json"]).stdout
    assert "core.proxy_http" in printed
    assert "s3cret" not in " ".join(command) + printed + result.log.read_text()


def test_failed_step_stops_setup_with_its_own_last_error(machine: Machine) -> None:
    machine.add("broken", "sh", "-c", "echo Error: no loop device; echo bye; exit 3")
    after = machine.add("after")
    with pytest.raises(LXDError) as error:
        machine.run()
    assert error.value.details == "Error: no loop device"
    assert "setup.log" in error.value.resolution
    assert not after.exists()


def test_apt_without_network_is_a_download_error(machine: Machine) -> None:
    machine.add("packages", "sh", "-c", "echo E: Failed to fetch http://deb; exit 100")
    with pytest.raises(DownloadError):
        machine.run()


def test_missing_program_causes_no_traceback(machine: Machine) -> None:
    machine.add("lxd", "no-such-program-here")
    with pytest.raises(LXDError):
        machine.run()


def test_step_without_effect_does_not_run_for_ever(machine: Machine) -> None:
    machine.add("useless", "true")
    with pytest.raises(LXDError, match="still needed"):
        machine.run()


def test_step_that_is_not_required_may_fail(machine: Machine) -> None:
    machine.add("inotify", "false", required=False)
    after = machine.add("after")
    assert machine.run().ready
    assert after.exists()


def test_user_who_cannot_become_root_is_refused_before_anything_runs(machine: Machine) -> None:
    mark = machine.add("first")
    machine.facts = replace(FRESH, privilege=Privilege.NONE)
    with pytest.raises(LXDError, match="cannot become root"):
        machine.run()
    assert not mark.exists()


def test_user_without_privilege_may_run_setup_where_nothing_is_to_do(machine: Machine) -> None:
    machine.facts = replace(READY, privilege=Privilege.NONE)
    assert machine.run().ready


def test_new_group_member_is_shown_how_to_go_on_in_this_shell(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.facts = replace(READY, account=replace(READY.account, in_session=False))
    result = machine.run()
    assert result.login_needed
    assert "sg lxd -c" in result.notes[0]


def try_by(machine: Machine, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Let a project without instances be tried by a script; returns a file that it writes to."""
    machine.has_instances = False
    tried = machine.directory / "tried"
    command = ("sh", "-c", f"echo tried >> {tried}; {script}")
    monkeypatch.setattr(run_setup, "try_command", lambda *_: command)
    return tried


def test_setup_is_not_believed_before_an_instance_has_started(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = try_by(machine, monkeypatch, "true")
    assert not machine.run(check=True).log
    assert not tried.exists()
    machine.add("first")
    assert [step.name for step in machine.run().steps] == ["first", "instance"]
    assert machine.run().ready
    assert tried.read_text() == "tried\n" * 2
    machine.has_instances = True
    assert [step.name for step in machine.run().steps] == ["first"]
    assert tried.read_text() == "tried\n" * 2


def test_instance_that_does_not_start_is_reported_with_its_cause_and_the_way_without_lxd(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_by(machine, monkeypatch, f"echo Error: no cgroup; exit {plan.NONE_STARTS}")
    with pytest.raises(plan.NoInstanceStartsError, match="no instance starts") as caught:
        machine.run()
    assert caught.value.details == "The cause: no cgroup."
    assert "setup.log" in caught.value.resolution
    assert "slurm-factory setup --destructive-mode" in caught.value.resolution


@pytest.fixture
def installed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages that are installed for builds without LXD."""
    calls: list[str] = []

    def install(*_: object, **__: object) -> SetupResult:
        calls.append("bison")
        return SetupResult((), ready=True, login_needed=False, notes=(), log=None, lxd=False)

    monkeypatch.setattr(run_setup, "setup_destructive", install)
    return calls


def test_where_no_instance_starts_one_line_shows_why_and_packages_are_installed_instead(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, installed: list[str]
) -> None:
    try_by(machine, monkeypatch, f"echo Error: no cgroup.; exit {plan.NONE_STARTS}")
    result = run_setup.setup_with_fallback(machine.settings, machine.reported.append)
    assert (result.lxd, installed) == (False, ["bison"])
    assert [line for line in machine.reported if "no cgroup" in line] == [
        "No instance can start here (no cgroup): this machine itself builds instead."
    ]


def test_step_that_fails_for_another_reason_installs_no_packages_for_builds_without_lxd(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, installed: list[str]
) -> None:
    try_by(machine, monkeypatch, "echo Error: The storage pool is full; exit 1")
    with pytest.raises(LXDError, match="step 'instance' of setup failed"):
        run_setup.setup_with_fallback(machine.settings, machine.reported.append)
    machine.add("daemon", "false")
    with pytest.raises(LXDError, match="step 'daemon' of setup failed"):
        run_setup.setup_with_fallback(machine.settings, machine.reported.append)
    assert installed == []


LXC = """#!/bin/sh
case "$*" in
*" $FAILING "*) echo "Error: $FAILING failed" >&2; exit 1 ;;
*" delete "* | *" info "*) exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("failing", "code"), [("import", 1), ("init", 1), ("start", 9), ("exec", 9), ("none", 0)]
)
def test_only_an_instance_that_is_there_and_does_not_start_shows_that_none_can(
    tmp_path: Path, failing: str, code: int
) -> None:
    stand_in = tmp_path / "lxc"
    stand_in.write_text(LXC)
    stand_in.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = plan.try_command("doctor-1", ALICE)
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": path, "FAILING": failing},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout == (f"Error: {failing} failed\n" if code else "")


def test_user_who_may_neither_ask_lxd_nor_become_root_tries_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = try_by(machine, monkeypatch, "true")
    machine.facts = replace(READY, permitted=False, privilege=Privilege.NONE)
    assert machine.run().ready
    assert not tried.exists()


def test_administrator_gets_the_command_that_is_for_the_user_who_builds(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = machine.directory / "slurm-factory"
    monkeypatch.setattr(sys, "argv", [str(program), "setup"])
    machine.add("first")
    machine.facts = replace(FRESH, privilege=Privilege.NONE)
    with pytest.raises(LXDError) as caught:
        machine.run()
    command = f"sudo env SUDO_UID=1000 {program} setup"
    assert caught.value.resolution == f"Ask an administrator to run: {command}"


class Packages:
    """A machine whose apt-get notes its calls, and installs unless it is broken."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = directory / "calls"
        self.works = True
        self.settings = Settings(cache_dir=directory / "cache")
        self.privilege = Privilege.ROOT
        self.reported: list[str] = []
        apt = ("sh", "-c", f'echo "$@" >> {self.calls}', "stand-in")
        monkeypatch.setattr(run_setup, "host_release", lambda: ("debian", "13"))
        monkeypatch.setattr(run_setup, "probe_privilege", lambda: self.privilege)
        monkeypatch.setattr(run_setup, "missing_packages", self.missing)
        monkeypatch.setattr(plan, "_script", lambda _: apt)

    def missing(self, wanted: Sequence[str]) -> tuple[str, ...]:
        installed = self.works and self.calls.exists()
        return () if installed else tuple(wanted[-2:])

    def run(self, *, check: bool = False) -> SetupResult:
        return run_setup.setup_destructive(self.settings, self.reported.append, check=check)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    return Packages(tmp_path, monkeypatch)


def test_build_packages_are_installed_once_after_an_update(packages: Packages) -> None:
    assert not packages.run(check=True).ready
    assert not packages.calls.exists()
    result = packages.run()
    assert result.ready
    assert [step.needed for step in result.steps] == [True]
    update, install = packages.calls.read_text().splitlines()
    assert update.endswith(" update")
    assert " install --yes --no-install-recommends " in install
    assert install.endswith(" xz-utils zlib1g-dev")
    assert [step.needed for step in packages.run().steps] == [False]


def test_build_packages_that_do_not_come_are_not_called_installed(packages: Packages) -> None:
    packages.works = False
    with pytest.raises(LXDError, match="still needed"):
        packages.run()


def test_user_without_rights_gets_the_command_for_an_administrator(packages: Packages) -> None:
    packages.privilege = Privilege.NONE
    with pytest.raises(LXDError) as caught:
        packages.run()
    assert caught.value.exit_code == 3
    install = "apt-get install --yes --no-install-recommends xz-utils zlib1g-dev"
    command = f"apt-get update && {install}"
    assert caught.value.resolution == f"Ask an administrator to run: {command}"
    assert not packages.calls.exists()


def test_sudo_is_used_only_by_those_who_are_not_root() -> None:
    assert elevated(("true",), as_root=False)[0] == "sudo"
    assert "sudo" not in elevated(("true",), as_root=True)


def test_proxies_survive_sudo_and_their_passwords_stay_out_of_its_log(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not [word for word in elevated(("true",), as_root=False) if "env" in word]
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("no_proxy", "localhost")
    command = elevated(("true",), as_root=False)
    assert "--preserve-env=https_proxy,no_proxy" in command
    assert "s3cret" not in " ".join(command)


def test_proxy_that_is_only_written_in_capitals_reaches_apt(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    mark = machine.directory / "packages"
    machine.add("packages", "sh", "-c", f"printenv http_proxy > {mark}")
    machine.run()
    assert mark.read_text() == f"{PROXY}\n"


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of a machine whose apt is at work: the first call finds a lock, as apt 2.6 says.

    `calls` has the arguments of apt-get, `options` those of sudo(8).
    """
    programs = {
        "apt-get": """echo "$*" >> "${0%/*}/calls"
            [ -e "${0%/*}/free" ] && exit
            touch "${0%/*}/free"
            echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7." >&2
            echo "E: Unable to lock directory /var/lib/apt/lists/" >&2
            exit 100""",
        "dpkg-query": "exit 1",
        "id": "echo 1000",
        "sudo": """[ "$*" = "-n true" ] && exit
            echo "$1" >> "${0%/*}/options"
            shift
            exec "$@" """,
        "sleep": "",
    }
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, text in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return directory


def apt_get(seconds: int) -> int:
    script = str(host_script("host-apt-get.sh"))
    command = ["bash", script, str(seconds), "update"]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode


def test_apt_that_runs_already_is_waited_for(fake_apt: Path) -> None:
    assert apt_get(60) == 0
    assert len((fake_apt / "calls").read_text().splitlines()) == 2


def test_apt_that_never_ends_is_not_waited_for_for_ever(fake_apt: Path) -> None:
    assert apt_get(0) == 100
    assert len((fake_apt / "calls").read_text().splitlines()) == 1


def test_other_error_of_apt_is_reported_at_once(fake_apt: Path) -> None:
    (fake_apt / "apt-get").write_text("#!/bin/sh\necho >> ${0%/*}/calls; exit 100\n")
    assert apt_get(60) == 100
    assert (fake_apt / "calls").read_text() == "\n"


def test_tools_of_make_wait_for_apt_and_hand_proxies_on(fake_apt: Path) -> None:
    tool = REPOSITORY / "tools" / "apt-install.sh"
    subprocess.run(["bash", tool, "make"], check=True, stderr=subprocess.DEVNULL)
    refused, update, install = (fake_apt / "calls").read_text().splitlines()
    assert refused == update
    assert "install --yes" in install
    assert "-o DPkg::Lock::Timeout=600 " in install
    preserved = set((fake_apt / "options").read_text().splitlines())
    assert preserved == {"--preserve-env=http_proxy,https_proxy,ftp_proxy,no_proxy"}


def test_user_who_may_not_become_root_gets_the_command_for_an_administrator(
    fake_apt: Path,
) -> None:
    (fake_apt / "sudo").write_text("#!/bin/sh\necho sudo: a password is required >&2; exit 1\n")
    tool = REPOSITORY / "tools" / "apt-install.sh"
    done = subprocess.run(
        ["bash", tool, "make", "gcc"], check=False, capture_output=True, text=True, input=""
    )
    assert done.returncode == 1
    install = "apt-get install --yes --no-install-recommends make gcc"
    assert done.stderr.rstrip().endswith(f"run: apt-get update && {install}")
    assert not (fake_apt / "calls").exists()


def test_line_is_appended_once_and_to_a_file_without_final_newline_too(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("alice:100000:65536")
    script = str(host_script("host-append-line.sh"))
    for _ in range(2):
        subprocess.run(["bash", script, "root:1000:1", str(file)], check=True)
    assert file.read_text() == "alice:100000:65536\nroot:1000:1\n"
