"""Runs every command of the program, with stdout or stderr as its tests want them.

A program of its own, with the cache directory in the environment. It prints how each command ended
for each of TARGETS, and then how each that is used wrongly ended. What would need a machine is
replaced by its outcome; all that reads arguments and writes answers is the program's own. It
starts once, and each command runs in a copy of the process, to its very end.
"""

import contextlib
import gc
import io
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from slurm_factory import builder, clean, main, prefetch, up_to_date
from slurm_factory.host import doctor, setup
from slurm_factory.host.checks import Check, Status
from slurm_factory.host.setup_steps import SetupStep
from slurm_factory.output.reporter import Reporter
from slurm_factory.package.manifest import load_manifest
from slurm_factory.up_to_date import Outcome

PLAN = ("--slurm-version", "24.11", "--base", "debian@12", "--deps", "system")
STEM = "slurm-24.11-debian-12-system"
PLAIN: tuple[tuple[str, ...], ...] = (
    ("build", *PLAN),
    ("build", *PLAN, "--force"),
    ("build", *PLAN, "--dry-run"),
    ("prefetch", *PLAN),
    ("matrix", "--series", *PLAN[1:]),
    ("matrix", "--series", *PLAN[1:], "--dry-run"),
    ("list",),
    ("show", "--compare", STEM, STEM),
    ("settings",),
    ("versions",),
    ("clean", "--dry-run"),
    ("setup", "--check"),
    ("doctor",),
)
BY_TYPER = (("--help",), ("build", "--help"), ("--show-completion", "bash"))
"""What the library that reads the arguments answers by itself."""
COMMANDS = (
    ("--version",),
    *BY_TYPER,
    *PLAIN,
    *((*command, "--json") for command in PLAIN),
    ("-q", "build", *PLAN, "--force"),
    ("-v", "build", *PLAN, "--force"),
    ("clean", "--yes"),
)
WRONG = (
    *((), ("-v",), ("nonsense",), ("build",), ("build", "--nope"), ("clean", "--older-than")),
    *(("clean", "--keep", "0"), ("clean", "no-such-package"), ("settings", "no-such-setting")),
    *(("show", "--compare", STEM), ("show", "--compare", STEM, "no-such-package")),
)
TARGETS = ("", "closed stdout", "full disk", "closed pipe", "closed stderr", "closed stdin")
TARGETS_OF_WRONG = ("", "closed stderr", "full disk for stderr", "closed pipe for stderr")


def outcome(plan: Any, settings: Any, *, up_to_date: bool) -> Outcome:
    path = settings.builds_dir / "24.11" / f"{plan.stem}-manifest.json"
    return Outcome(path, load_manifest(path), up_to_date)


def build(plan: Any, settings: Any, reporter: Reporter, **_: object) -> Outcome:
    with reporter.step("Make"):
        reporter.line("gcc")
    return outcome(plan, settings, up_to_date=False)


def replace_machine() -> None:
    """Let nothing reach LXD, the network or this machine."""
    found: Callable[..., Any] = lambda plan, settings: outcome(plan, settings, up_to_date=True)  # noqa: E731
    changes: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (builder, "build", build),
        (up_to_date, "find_up_to_date", found),
        (prefetch, "prefetch", lambda *_: prefetch.Prefetched(Path("/cache"), (), ())),
        (clean, "plan_clean", lambda *_: clean.CleanPlan((clean.Removal("work", "/x", 1),), ())),
        (clean, "remove_all", lambda removals, *_: removals),
        (setup, "setup", lambda *_, **__: setup_result()),
        (doctor, "doctor", lambda *_: (Check("lxd", Status.OK, "answers"),)),
    )
    for module, name, stand_in in changes:
        setattr(module, name, stand_in)


def setup_result() -> setup.SetupResult:
    steps = (SetupStep("daemon", needed=False, why="answers"),)
    return setup.SetupResult(steps, ready=True, login_needed=False, notes=(), log=None)


def redirect(target: str, out: int, err: int) -> None:
    """Give this process its streams: `out` and `err`, but for what `target` says."""
    reader, writer = os.pipe()
    os.close(reader)
    bad = os.open("/dev/full", os.O_WRONLY) if target.startswith("full disk") else writer
    if target in {"full disk", "closed pipe"}:
        out = bad
    elif target.endswith("for stderr"):
        err = bad
    for number, descriptor in ((1, out), (2, err)):
        os.dup2(descriptor, number)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if target == f"closed {name}":
            os.close(number)
            setattr(sys, name, None)
        else:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def run_command(command: tuple[str, ...]) -> int:
    """Run the program in this process, to what the interpreter does at its end."""
    arguments = tuple(word for word in command if word != "--force")
    if arguments != command:
        vars(up_to_date)["find_up_to_date"] = lambda *_: None
    sys.argv = ["slurm-factory", *arguments]
    try:
        main.run()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001  # as the interpreter tells it
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            code = 120
    return code


def results(
    target: str, commands: Sequence[tuple[str, ...]]
) -> Iterator[tuple[str, int, str, str]]:
    """Command, exit code, stdout and stderr of each."""
    for command in commands:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                redirect(target, out.fileno(), err.fileno())
                os._exit(run_command(command))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            yield " ".join(command), status, out.read().decode(), err.read().decode()


def import_all() -> None:
    """What commands import when they run, so that each copy need not."""
    with contextlib.redirect_stdout(io.StringIO()):
        for command in (("list",), ("build", *PLAN)):
            run_command(command)


if __name__ == "__main__":
    replace_machine()
    import_all()
    # Copies share what is there, for no collection of garbage touches it.
    gc.freeze()
    right = {target: [*results(target, COMMANDS)] for target in TARGETS}
    wrong = {target: [*results(target, WRONG)] for target in TARGETS_OF_WRONG}
    json.dump({"right": right, "wrong": wrong}, sys.stdout)
