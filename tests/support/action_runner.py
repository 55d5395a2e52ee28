"""A runner of GitHub for composite actions, in an instance: their steps in order, as a user.

The services behind `actions/cache` and `actions/upload-artifact` are directories in the instance.
"""

import json
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from action_expressions import Context
from commands import LIMIT_SECONDS, run_to_end
from runner_files import annotations, parsed

from slurm_factory.util.process import ATTEMPTS

HOME = PurePosixPath("/home/runner")
WORK = HOME / "work"
WORKSPACE = WORK / "project" / "project"
TEMP = WORK / "_temp"
ACTIONS = WORK / "_actions" / "slurm-factory" / "slurm-factory" / "v1"
CACHES = PurePosixPath("/srv/caches")
ARTIFACTS = PurePosixPath("/srv/artifacts")
FILES = ("GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")
SHELL = "bash --noprofile --norc -eo pipefail"
"""What `shell: bash` means."""
WORKER = 'while read -r script; do bash "$script" < /dev/null; echo "$?"; done'
ENVIRONMENT = {
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "somebody/project",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_RUN_ID": "42",
    "GITHUB_WORKSPACE": str(WORKSPACE),
    "HOME": str(HOME),
    "LANG": "C.UTF-8",
    "RUNNER_ARCH": "X64",
    "RUNNER_OS": "Linux",
    "RUNNER_TEMP": str(TEMP),
    "USER": "runner",
}
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
AS_RUNNER = (
    *("setpriv", "--reuid=runner", "--regid=runner", "--init-groups"),
    *("env", "-i", f"HOME={HOME}", f"PATH={':'.join(SYSTEM_PATH)}"),
)

RESTORE = """
paths=$(sha256sum <<< "$2")
while read -r entry; do
    [[ $(< "$entry/paths") != "$paths" ]] || { tar -xPf "$entry/content"; basename "$entry"; exit; }
done < <(ls -dt "$1"* 2> /dev/null || true)
"""
SAVE = """
[[ ! -e $1 ]] || { echo "There is $1 already" >&2; exit 1; }
mkdir "$1"
sha256sum <<< "$2" > "$1/paths"
mapfile -t files <<< "$2"
mapfile -t there < <(ls -d "${files[@]}" 2> /dev/null)
tar -cPf "$1/content" "${there[@]}"
"""


@dataclass
class StepRun:
    """What a step did."""

    name: str
    outcome: str
    output: str = ""
    seconds: float = 0

    @property
    def annotations(self) -> list[dict[str, str]]:
        """What it has annotated."""
        return annotations(self.output)


@dataclass
class ActionRun:
    """What an action did.

    Attributes:
        outputs: Its outputs.
        steps: Its steps, by their names.
        summary: What the steps have added to the summary of the job.
        failed: Whether one of them has failed.
    """

    outputs: dict[str, str]
    steps: dict[str, StepRun]
    summary: str
    failed: bool

    def __str__(self) -> str:
        told = [
            f"{step.name}: {step.outcome} after {step.seconds:.1f} s\n{step.output}"
            for step in self.steps.values()
        ]
        return "\n".join([*told, f"outputs: {self.outputs}", self.summary])


@dataclass
class Job:
    """A job of a workflow: what its steps share.

    Attributes:
        instance: The command that runs another one in the instance.
        worker: The process of the runner that ends with the job.
        path: Directories that steps have put before PATH.
        restored: Names of caches that were restored; empty: none was found.
    """

    instance: tuple[str, ...]
    worker: subprocess.Popen[str]
    path: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    count: int = 0

    def as_root(self, *command: str, given: str = "") -> str:
        """Run a command in the instance; returns what it printed."""
        return inside(self.instance, *command, given=given)

    def run(self, text: str, environment: Mapping[str, str]) -> tuple[int, str, dict[str, str]]:
        """Run the text of a step; returns its status, what it printed and the files it wrote."""
        self.count += 1
        place = TEMP / f"step-{self.count}"
        files = {name: str(place / name) for name in FILES}
        path = ":".join((*self.path, *SYSTEM_PATH))
        variables = {**ENVIRONMENT, "PATH": path, **environment, **files}
        exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        lines = [*exports, f"cd {WORKSPACE}", f"exec {SHELL} {place}/run > {place}/log 2>&1", ""]
        documents = {"run": text, "start": "\n".join(lines)} | dict.fromkeys(FILES, "")
        # lxc may fail after the command has run (`run_to_end`), which then runs twice.
        begin = "import json, os, sys\nos.makedirs(sys.argv[1], exist_ok=True)\n"
        write = begin + textwrap.dedent("""
            for name, text in json.load(sys.stdin).items():
                open(f"{sys.argv[1]}/{name}", "w").write(text)
            """)
        given = json.dumps(documents)
        self.as_root(*AS_RUNNER, "python3", "-c", write, str(place), given=given)
        assert self.worker.stdin
        assert self.worker.stdout
        self.worker.stdin.write(f"{place}/start\n")
        self.worker.stdin.flush()
        status = int(self.worker.stdout.readline())
        read = "import json, sys\nprint(json.dumps([open(f).read() for f in sys.argv[1:]]))"
        names = [f"{place}/log", *files.values()]
        log, *contents = json.loads(self.as_root("python3", "-c", read, *names))
        return status, log, dict(zip(FILES, contents, strict=True))

    def use(self, file: Path, inside_at: PurePosixPath, **inputs: str) -> ActionRun:
        """Run a composite action.

        Args:
            file: Its action.yml (host).
            inside_at: Its directory (instance).
            inputs: Inputs with underscores for hyphens.
        """
        action = yaml.safe_load(file.read_text("utf-8"))
        defaults = {name: each.get("default", "") for name, each in action["inputs"].items()}
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        assert given.keys() <= defaults.keys()
        run = _Run(self, inside_at, Context(defaults | given))
        for step in action["runs"]["steps"]:
            run.step(step)
        outputs = {
            name: run.context.fill(each["value"]) for name, each in action["outputs"].items()
        }
        done = ActionRun(outputs, run.steps, run.summary, run.context.failed)
        # pytest shows it with a test that fails, and with -rA.
        sys.stdout.write(f"{done}\n")
        return done


class _Run:
    """One run of an action."""

    def __init__(self, job: Job, path: PurePosixPath, context: Context) -> None:
        self.context = context
        self.steps: dict[str, StepRun] = {}
        self.summary = ""
        self._job = job
        self._path = path

    def step(self, step: Mapping[str, Any]) -> None:
        """Run a step, unless its condition forbids it."""
        unknown = step.keys() - {"name", "id", "if", "shell", "env", "run", "uses", "with"}
        assert not unknown, f"this runner does not know {unknown}"
        name, outputs, began = step["name"], dict[str, str](), time.monotonic()
        done = StepRun(name, "skipped")
        if self.context.is_wanted(step.get("if", "")):
            given = {k: self.context.fill(str(v)) for k, v in step.get("with", {}).items()}
            if "uses" in step:
                outputs = self._service(step["uses"].partition("@")[0], given)
                done = StepRun(name, "success")
            else:
                done, outputs = self._script(step)
        done.seconds = time.monotonic() - began
        self.steps[name] = done
        self.context.failed |= done.outcome == "failure"
        if "id" in step:
            self.context.outcomes[step["id"]] = done.outcome
            self.context.outputs[step["id"]] = outputs

    def _script(self, step: Mapping[str, Any]) -> tuple[StepRun, dict[str, str]]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "an expression in a script lets its value become a command"
        environment = {k: self.context.fill(v) for k, v in step.get("env", {}).items()}
        environment["GITHUB_ACTION_PATH"] = str(self._path)
        status, log, files = self._job.run(step["run"], environment)
        assert not files["GITHUB_ENV"], "this runner does not hand on variables"
        self._job.path[:0] = files["GITHUB_PATH"].split()
        self.summary += files["GITHUB_STEP_SUMMARY"]
        outcome = "failure" if status else "success"
        return StepRun(step["name"], outcome, log), parsed(files["GITHUB_OUTPUT"])

    def _service(self, name: str, given: Mapping[str, str]) -> dict[str, str]:
        match name:
            case "actions/cache/restore":
                self._job.restored.append(self._restore(given))
                return {"cache-matched-key": self._job.restored[-1]}
            case "actions/cache/save":
                self._as_runner(SAVE, f"{CACHES}/{given['key']}", given["path"].strip())
            case "actions/upload-artifact":
                self._upload(given)
            case _:
                raise AssertionError(f"this runner does not know {name}")
        return {}

    def _restore(self, given: Mapping[str, str]) -> str:
        for key in (given["key"], *given["restore-keys"].split()):
            found = self._as_runner(RESTORE, f"{CACHES}/{key}", given["path"].strip())
            if found:
                return found.strip()
        return ""

    def _upload(self, given: Mapping[str, str]) -> None:
        paths = given["path"].replace("~/", f"{HOME}/").split("\n")
        files = [path for path in paths if path and self._exists(path)]
        assert files or given["if-no-files-found"] == "ignore", f"{given['name']} has no files"
        target = f"{ARTIFACTS}/{given['name']}"
        self._as_runner('mkdir "$1" && cp -r "${@:2}" "$1"', target, *files)

    def _exists(self, file: str) -> bool:
        return bool(self._as_runner('[[ ! -e $1 ]] || echo "$1"', file))

    def _as_runner(self, script: str, *arguments: str) -> str:
        return self._job.as_root(*AS_RUNNER, "bash", "-euc", script, "service", *arguments)


def save_cache(instance: tuple[str, ...], key: str, paths: str) -> None:
    """Let the service of caches have one that an earlier job has saved."""
    inside(instance, *AS_RUNNER, "bash", "-euc", SAVE, "service", f"{CACHES}/{key}", paths)


@contextmanager
def job_in(instance: tuple[str, ...]) -> Iterator[Job]:
    """A job, which ends when the block does.

    Args:
        instance: The command that runs another one in the instance, as root.
    """
    inside(instance, "find", str(TEMP), "-mindepth", "1", "-delete")
    with _worker(instance) as process:
        try:
            yield Job(instance, process)
        finally:
            assert process.stdin
            process.stdin.close()
            process.wait(LIMIT_SECONDS)


def _worker(instance: tuple[str, ...]) -> subprocess.Popen[str]:
    """A process that runs the scripts whose names it gets, and prints their exit statuses."""
    command = [*instance, *AS_RUNNER, f"{HOME}/Runner.Worker", "-c", WORKER]
    for _ in range(ATTEMPTS):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError):
            process.stdin.write("/dev/null\n")
            process.stdin.flush()
        if process.stdout.readline() == "0\n":
            return process
        # An lxc that did not come to start it.
        process.wait(LIMIT_SECONDS)
    raise AssertionError("lxc does not start a process")


def inside(instance: tuple[str, ...], *command: str, given: str = "") -> str:
    """Run a command that must succeed in the instance; returns what it printed."""
    done = run_to_end([*instance, *command], given=given)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
