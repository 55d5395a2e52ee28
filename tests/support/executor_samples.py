"""Executors without a machine behind them."""

import io
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from craft_providers import Executor

OS_RELEASE = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
EXTERNALS = """\
packages:
  gmake:
    externals:
    - {spec: gmake@4.3, prefix: /usr}
    buildable: false
"""
ANSWERS = {
    ("cat", "/etc/os-release"): OS_RELEASE,
    ("systemctl", "is-system-running"): "running\n",
    ("cat", "/opt/spack-externals/packages.yaml"): EXTERNALS,
    ("cat", "/opt/spack/.slurm-factory-checkout"): "git:1234\n",
    ("cat", "/opt/spack-packages/.slurm-factory-checkout"): "sha256:abcd\n",
    ("dpkg-query",): (
        "installed libc6:amd64 2.36-9\ninstalled zlib1g:amd64 1:1.2.13.dfsg-1\n"
        "config-files munge:amd64 0.5.15-2\n"
    ),
}


class RecordingExecutor(Executor):
    """Answers like a freshly started Debian 12; notes every command, runs none of them.

    Args:
        failing: Starts of commands that fail.
    """

    instance_name = "base-instance"

    def __init__(self, failing: Sequence[str] = ()) -> None:
        self.commands: list[str] = []
        self.environments: list[dict[str, str | None]] = []
        self.files: dict[str, bytes] = {}
        self.failing = tuple(failing)

    def execute_popen(
        self,
        command: list[str],
        *,
        cwd: PurePath | None = None,
        env: dict[str, str | None] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> subprocess.Popen[str]:
        fails = self._note(command, env)
        stand_in = ["sh", "-c", "echo 'E: Unable to locate package x'; exit 100"]
        return subprocess.Popen(stand_in if fails else ["true"], **kwargs)

    def execute_run(
        self,
        command: list[str],
        *,
        cwd: PurePath | None = None,
        env: dict[str, str | None] | None = None,
        timeout: float | None = None,
        check: bool = False,
        **kwargs: Any,
    ) -> subprocess.CompletedProcess[Any]:
        fails = self._note(command, env)
        if fails and check:
            raise subprocess.CalledProcessError(1, command)
        said = next((a for key, a in ANSWERS.items() if tuple(command[: len(key)]) == key), "")
        return subprocess.CompletedProcess(command, int(fails), said, "")

    def _note(self, command: list[str], env: dict[str, str | None] | None) -> bool:
        line = " ".join(map(str, command))
        self.commands.append(line)
        self.environments.append(env or {})
        return bool(self.failing) and line.startswith(self.failing)

    def pull_file(self, *, source: PurePath, destination: Path) -> None:
        if str(source) not in self.files:
            raise FileNotFoundError(source)
        destination.write_bytes(self.files[str(source)])

    def push_file(self, *, source: Path, destination: PurePath) -> None:
        self.files[str(destination)] = source.read_bytes()

    def push_file_io(
        self,
        *,
        destination: PurePath,
        content: io.BytesIO,
        file_mode: str,
        group: str = "root",
        user: str = "root",
    ) -> None:
        with io.BytesIO() as copy:
            shutil.copyfileobj(content, copy)
            self.files[str(destination)] = copy.getvalue()

    def delete(self) -> None: ...

    def exists(self) -> bool:
        return True

    def mount(self, *, host_source: Path, target: PurePath) -> None: ...

    def is_running(self) -> bool:
        return True


class ScriptedExecutor(RecordingExecutor):
    """Runs prepared shell commands in order, ignoring the requested ones."""

    def __init__(self, *scripts: str) -> None:
        super().__init__()
        self._scripts = list(scripts)

    def execute_popen(self, command: list[str], **kwargs: Any) -> subprocess.Popen[str]:
        env = kwargs.pop("env", None)
        self._note(command, env)
        return subprocess.Popen(["sh", "-c", self._scripts.pop(0)], **kwargs)
