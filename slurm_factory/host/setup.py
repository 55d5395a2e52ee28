"""Run the steps of a setup plan."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slurm_factory.cache_dir import MARK, TAG, make_cache_dir
from slurm_factory.config import Settings
from slurm_factory.constants import APPLICATION, LXD_GROUP, SAME, Deps
from slurm_factory.exceptions import DownloadError, LXDError
from slurm_factory.host.doctor_instance import doctor_name, has_instances
from slurm_factory.host.facts import Account, Firewall, HostFacts, Privilege
from slurm_factory.host.probe import missing_packages, probe, probe_account, probe_privilege
from slurm_factory.host.setup_steps import (
    NONE_STARTS,
    WITHOUT_LXD,
    Command,
    NoInstanceStartsError,
    SetupStep,
    build_packages_step,
    install_line,
    plan_setup,
    try_command,
)
from slurm_factory.output.text import mask_credentials
from slurm_factory.plan.base_setup import BaseSetup, base_packages
from slurm_factory.plan.bases import find_base, host_release
from slurm_factory.util.files import file_errors
from slurm_factory.util.machine import proxies
from slurm_factory.util.process import run_logged

STEP_SECONDS = 1800
NOT_ROOT = "This process is not root, and sudo is missing or refuses this user."
NO_NETWORK = (
    "Temporary failure resolving",
    "Could not resolve",
    "Could not connect",
    "Connection failed",
    "Connection timed out",
    "Unable to connect",
    "Network is unreachable",
    "unable to contact snap store",
    "Failed to fetch",
    "dial tcp",
)
"""Messages of apt and snap if the network is the cause."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class SetupResult:
    """The result of a setup.

    Attributes:
        steps: Every step; after a run that was not only a check, as before the run, so that
            `needed` shows the changes.
        ready: Whether no required step is needed (any more).
        login_needed: Whether the group is new, so that this shell cannot use LXD yet.
        notes: Notes for the user: a slow storage pool, changes that the next boot undoes.
        log: Log file (host) of the commands' output, None if nothing was run.
        lxd: Whether it was about builds in LXD, and not about builds on this machine itself.
    """

    steps: tuple[SetupStep, ...]
    ready: bool
    login_needed: bool
    notes: tuple[str, ...]
    log: Path | None
    lxd: bool = True


def setup(settings: Settings, report: Report, *, check: bool = False) -> SetupResult:
    """Install and configure LXD for builds, or only check it.

    If the project has no instance yet, starts and deletes one: only this shows whether instances
    start here.

    Args:
        settings: For the directory of the log file.
        report: Called with one line for each step.
        check: Change nothing.

    Raises:
        NoInstanceStartsError: LXD cannot run on this machine, or starts no instance.
        LXDError: This machine cannot be set up, this user is not allowed to, or a step failed.
        DownloadError: apt or snap could not reach its archive.
        OutputError: The log cannot be written.
    """
    facts = probe()
    steps = plan_setup(facts)
    needed = any(step.needed for step in steps)
    if check or not (needed or _is_untried(facts, settings)):
        return _result(facts, steps, plan_setup(facts), None)
    if needed:
        _ensure_privilege(facts)
    log = settings.logs_dir / "setup.log"
    with _open_log(log, settings, facts.account) as file:
        facts, taken = _take_needed(facts, file, log, report)
        tried = [_try_instance(facts, file, log, report)] if _is_untried(facts, settings) else []
    after = plan_setup(facts)
    steps = (*(taken.get(step.name, step) for step in after), *tried)
    return _result(facts, steps, after, log)


def setup_with_fallback(settings: Settings, report: Report, *, check: bool = False) -> SetupResult:
    """Set LXD up, or builds on this machine itself where no instance can start.

    Any other failure of LXD is left to the user: it may pass, and packages stay.

    Args:
        settings: For the directory of the log file.
        report: Called with one line for each step that is taken, and with why LXD is not used.
        check: Change nothing.

    Raises:
        ConfigurationError: The release that runs here is not a base.
        LXDError: A step failed, or this user cannot become root.
        DownloadError: apt or snap could not reach its archive.
        OutputError: The log cannot be written.
    """
    try:
        return setup(settings, report, check=check)
    except NoInstanceStartsError as error:
        report(f"No instance can start here ({error.cause}): this machine itself builds instead.")
        return setup_destructive(settings, report, check=check)


def setup_destructive(settings: Settings, report: Report, *, check: bool = False) -> SetupResult:
    """Install the packages that builds on this machine itself need, or only check them.

    Args:
        settings: For the directory of the log file.
        report: Called with one line for each step.
        check: Change nothing.

    Raises:
        ConfigurationError: The release that runs here is not a base.
        LXDError: This user cannot become root, or apt failed.
        DownloadError: apt could not reach its archive.
        OutputError: The log cannot be written.
    """
    packages = base_packages(
        BaseSetup(find_base(SAME, host_release()), Deps.SYSTEM, platform.machine())
    )
    step = build_packages_step(missing := missing_packages(packages))
    if check or not step.needed:
        return _destructive_result(step, None, ready=not step.needed)
    privilege = probe_privilege()
    if privilege is Privilege.NONE:
        raise LXDError(
            "Only root can install packages, and this user cannot become root.",
            details=NOT_ROOT,
            resolution=f"Ask an administrator to run: {install_line(missing)}",
        )
    log = settings.logs_dir / "setup.log"
    with _open_log(log, settings, probe_account()) as file:
        report(f"{step.name}: {step.why}")
        _take(step, file, log, as_root=privilege is Privilege.ROOT)
    if missing_packages(packages):
        raise _without_effect(step, log)
    return _destructive_result(step, log, ready=True)


def _destructive_result(step: SetupStep, log: Path | None, *, ready: bool) -> SetupResult:
    return SetupResult((step,), ready, login_needed=False, notes=(), log=log, lxd=False)


def _is_untried(facts: HostFacts, settings: Settings) -> bool:
    """Whether it is unknown whether instances start here, and this process can test it."""
    may = facts.permitted or facts.privilege is not Privilege.NONE
    return may and not has_instances(settings.project_name, facts)


def _try_instance(facts: HostFacts, file: IO[str], log: Path, report: Report) -> SetupStep:
    command = try_command(doctor_name(), facts.account)
    why = "no instance has started here yet: setup starts one as a test"
    step = SetupStep("instance", needed=True, why=why, commands=(command,))
    report(f"{step.name}: {why}")
    status, output = _run(command, file, log, as_root=facts.permitted)
    if status == NONE_STARTS:
        raise NoInstanceStartsError(
            _error_line(output).removeprefix("Error: ").rstrip("."),
            "LXD is set up, but no instance starts.",
            resolution=f"The full output is in {log}. To build without LXD, run: {WITHOUT_LXD}",
        )
    if status:
        raise _failed(step, command, output, log)
    return step


def _open_log(log: Path, settings: Settings, account: Account) -> IO[str]:
    """The log, readable only for its owner: messages of other programs may contain passwords.

    Directories that root makes for the account that called sudo(8) get that owner. Below root's own
    home, which sudo(8) may have chosen, they stay root's.
    """
    with file_errors(log):
        marks = [settings.cache_dir / name for name in (MARK, TAG)]
        missing = [path for path in (log, *marks, *log.parents) if not path.exists()]
        for_account = os.geteuid() == 0 and _belongs_to(account, settings.cache_dir)
        make_cache_dir(settings, account.uid if for_account else None)
        log.parent.mkdir(exist_ok=True)
        # What ran in an instance may have left a link or a pipe there.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.fdopen(os.open(log, flags, 0o600), "a", encoding="utf-8")
        os.fchmod(file.fileno(), 0o600)
        for path in missing if for_account else ():
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
        return file


def _belongs_to(account: Account, path: Path) -> bool:
    """Whether a path (host), or the nearest parent that exists, is an ordinary user's own."""
    nearest = next(place for place in (path, *path.parents) if place.exists())
    return account.uid != 0 and nearest.stat().st_uid == account.uid


def _take_needed(
    facts: HostFacts, file: IO[str], log: Path, report: Report
) -> tuple[HostFacts, dict[str, SetupStep]]:
    """Run the first needed step and probe again, until no step is needed."""
    taken: dict[str, SetupStep] = {}
    while step := _next(plan_setup(facts), taken):
        if step.name in taken:
            raise _without_effect(step, log)
        report(f"{step.name}: {step.why}")
        taken[step.name] = step
        try:
            _take(step, file, log, as_root=facts.privilege is Privilege.ROOT)
        except LXDError as error:
            if step.required:
                raise
            report(f"{step.name}: cannot be changed; continuing without it: {error.details}")
        facts = probe()
    return facts, taken


def _next(steps: tuple[SetupStep, ...], taken: Mapping[str, SetupStep]) -> SetupStep | None:
    return next(
        (step for step in steps if step.needed and (step.required or step.name not in taken)), None
    )


def elevated(command: Command, *, as_root: bool) -> Command:
    """The command as this process must run it, with a time limit (timeout(1)).

    sudo(8) may ask for a password only on a terminal. By default it drops the proxies; passing only
    the names of their variables keeps passwords out of its log and the process list.
    """
    limited = ("timeout", "--foreground", "--kill-after=10", str(STEP_SECONDS), *command)
    if as_root:
        return limited
    asking = () if sys.stdin is not None and sys.stdin.isatty() else ("-n",)
    preserved = ",".join(proxies(os.environ))
    return ("sudo", *asking, *([f"--preserve-env={preserved}"] if preserved else []), *limited)


def _take(step: SetupStep, file: IO[str], log: Path, *, as_root: bool) -> None:
    for command in step.commands:
        status, output = _run(command, file, log, as_root=as_root)
        if status:
            raise _failed(step, command, output, log)


def _run(command: Command, file: IO[str], log: Path, *, as_root: bool) -> tuple[int, str]:
    """Exit status of a command, and what it wrote to the log."""
    file.write(f"$ {mask_credentials(shlex.join(command))}\n")
    file.flush()
    start = file.tell()
    status = run_logged(elevated(command, as_root=as_root), file).status
    with log.open("rb") as written:
        written.seek(start)
        return status, written.read().decode(errors="replace")


def _error_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "")


def _failed(step: SetupStep, command: Command, output: str, log: Path) -> LXDError | DownloadError:
    last = _error_line(output)
    if any(sign in output for sign in NO_NETWORK):
        return DownloadError(
            f"The step '{step.name}' of setup could not reach the network.",
            details=last,
            resolution="Check network, proxy and mirror, then repeat; the full output is in"
            f" {log}.",
        )
    return LXDError(
        f"The step '{step.name}' of setup failed: {shlex.join(command)}",
        details=last,
        resolution=f"slurm-factory doctor shows details; the full output is in {log}.",
    )


def _without_effect(step: SetupStep, log: Path) -> LXDError:
    return LXDError(
        f"The step '{step.name}' of setup succeeded, but is still needed.",
        details=step.why,
        resolution=f"The full output is in {log}; slurm-factory doctor shows details.",
    )


def _ensure_privilege(facts: HostFacts) -> None:
    if facts.privilege is Privilege.NONE:
        raise LXDError(
            "Only root can set up this machine, and this user cannot become root.",
            details=NOT_ROOT,
            resolution=f"Ask an administrator to run: {_as_administrator(facts.account)}",
        )


def _as_administrator(account: Account) -> str:
    """The shell line with which an administrator sets up the machine for an account."""
    called = Path(sys.argv[0])
    program = str(called.resolve()) if called.name == APPLICATION else APPLICATION
    return shlex.join(["sudo", "env", f"SUDO_UID={account.uid}", program, "setup"])


def _result(
    facts: HostFacts, steps: tuple[SetupStep, ...], after: tuple[SetupStep, ...], log: Path | None
) -> SetupResult:
    return SetupResult(
        steps=steps,
        ready=not any(step.needed and step.required for step in after),
        login_needed=_login_needed(facts.account),
        notes=_notes(facts),
        log=log,
    )


def _login_needed(account: Account) -> bool:
    return os.geteuid() != 0 and account.in_group and not account.in_session


def _notes(facts: HostFacts) -> tuple[str, ...]:
    notes = []
    if _login_needed(facts.account):
        notes.append(
            f"{facts.account.name} is new in the group {LXD_GROUP}: log in again, or run"
            f" commands with sg {LXD_GROUP} -c 'slurm-factory build …'"
        )
    lxd = facts.lxd
    if lxd and lxd.root_pool and lxd.pools.get(lxd.root_pool) == "dir":
        notes.append("The storage pool is a plain directory: each build starts about 20 s later.")
    if not facts.systemd and facts.lxd:
        notes.append("No systemd here: run slurm-factory setup after a reboot to start LXD again.")
    if facts.forwarded and facts.firewall in {Firewall.DOCKER, Firewall.OTHER}:
        notes.append(
            "A reboot removes the iptables rules: run slurm-factory setup again afterwards."
        )
    return tuple(notes)
