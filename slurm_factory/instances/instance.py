"""The place where a build runs: an LXD instance or this machine, behind one small class."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from slurm_factory import resources
from slurm_factory.exceptions import (
    BuildError,
    LXDError,
    SlurmFactoryError,
    VerificationError,
)
from slurm_factory.instances.lxc import require_running
from slurm_factory.util.files import cache_is_full, disk_full_lines, has_no_room
from slurm_factory.util.process import (
    ATTEMPTS,
    ENDED_SECONDS,
    STREAMED,
    TAIL_LINES,
    TRANSIENT,
    error_line,
    follow,
    receive,
    start_with_secrets,
)
from slurm_factory.util.tar_stream import TAR, StreamEndedError, refused, unpack

if TYPE_CHECKING:
    from io import BufferedReader
    from subprocess import Popen

    from slurm_factory.output.reporter import Reporter
    from slurm_factory.util.process import CommandRunner

SCRIPT_LOCKS = PurePosixPath("/run")
"""In an instance, directory of a lock for each script, held while it runs: other scripts take
packages out while Spack builds. With --close (flock(1)), what a script leaves running does not hold
it."""
KILLED = 137
"""128 + SIGKILL: the only sign that the memory limit ended a process."""
COMPILER_KILLED = "Killed signal terminated program"
"""gcc's message if this happens to one of its processes."""
CONNECTION_LOST = ("Error: websocket: close 1006", "http://unix.socket/1.0")
"""lxc's messages if LXD ends during a command, which goes on in the instance (RFC 6455, 7.1.5), or
is not back yet when a command begins."""
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "TZ": "UTC", "HOME": "/root"}
"""The environment of every command of a build. LXD sets LANG by itself, and ccache hashes it."""


LARGEST_FILE = 64 << 20
"""Limit in bytes for a single file that an instance delivers."""

T = TypeVar("T")


class CommandError(BuildError):
    """A command in an instance failed.

    Attributes:
        returncode: Its exit status.
        tail: The last lines it printed.
    """

    def __init__(self, what: str, returncode: int, tail: Sequence[str]) -> None:
        self.returncode = returncode
        self.tail = tuple(tail)
        last = error_line(tail, "It printed nothing.")
        killed = returncode == KILLED or _says(tail, COMPILER_KILLED)
        super().__init__(
            f"{what} failed (exit status {returncode}).",
            details="It was killed, most likely because it ran out of memory." if killed else last,
            resolution="Raise SLURM_FACTORY_MEMORY_LIMIT or lower --jobs." if killed else "",
        )


def enter_command(name: str, project: str) -> str:
    """The command that opens a shell in an instance of an LXD project."""
    return f"lxc --project {project} exec local:{name} -- bash -l"


def _holding_back(
    mark: str, transient: list[str], on_line: Callable[[str], None]
) -> Callable[[str], None]:
    """Passes lines to `on_line`, except those that contain `mark`, which go into `transient`."""

    def take(line: str) -> None:
        (transient.append if mark in line else on_line)(line)

    return take


def _says(tail: Sequence[str], text: str) -> bool:
    return any(text in line for line in tail)


def _take_some(
    process: Popen[bytes], take: Callable[[BinaryIO], T], stream: BufferedReader
) -> T | None:
    """What `take` makes of the output of a process; None if there is none."""
    try:
        return take(stream) if stream.peek(1) else None
    except StreamEndedError:
        # Its exit status shows whether it has failed; something hostile may not end.
        with suppress(TimeoutExpired):
            process.wait(ENDED_SECONDS)
        raise


@dataclass(frozen=True)
class Mount:
    """A directory of this machine that an instance sees below its cache directory.

    Attributes:
        source: The directory (host), below the cache directory; made if missing.
        writable: Whether the instance may change it.
        at: Its path below the instance's cache directory; None: as on this machine.
        whole: Whether commands look for files in it that no parameter names.
        shared: Whether it is a cache that builds share, and not of one build.
    """

    source: Path
    writable: bool = False
    whole: bool = False
    shared: bool = True
    at: PurePosixPath | None = None

    def below(self, cache_on_host: Path) -> PurePath:
        """Its path below the instance's cache directory.

        Args:
            cache_on_host: The cache directory (host).
        """
        return self.at or self.source.relative_to(cache_on_host)


class Brings(Protocol):
    """Brings files of this machine to an instance that no mount reaches (`delivery.Delivery`)."""

    def bring(self, *paths: Path) -> None:
        """Files, and all in directories (host)."""
        ...

    def bring_whole(self) -> None:
        """What commands look for without being told where."""
        ...


@dataclass(frozen=True)
class Instance:
    """A place where commands run. Nothing that ran in it is trusted.

    Attributes:
        name: Name of the LXD instance, or `this machine`.
        executor: Runs commands in it.
        cache_on_host: The cache directory (host).
        cache: Its path in the instance, which sees only `mounts` below it.
        mounts: The directories that it sees.
        build_dir: Directory for compiling (instance), on the fastest storage there is.
        record: The content of the base.
        project: LXD project; None for this machine.
        reporter: Shows commands that are started again.
        secrets: Variables of every command that must not appear in command lines: the proxies.
        delivery: Brings what it sees to it; None where that is mounted.
    """

    name: str
    executor: CommandRunner
    cache_on_host: Path
    cache: PurePosixPath
    build_dir: PurePosixPath
    mounts: tuple[Mount, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    project: str | None = None
    reporter: Reporter | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    delivery: Brings | None = None

    def inside(self, path: Path) -> PurePosixPath:
        """The instance's path of a host path below one of its mounts, where it then is.

        Raises:
            ValueError: The instance does not see it.
            LXDError: It is on another LXD, which refused it.
        """
        for mount in self.mounts:
            if path.is_relative_to(mount.source):
                if self.delivery:
                    self.delivery.bring(path)
                place = self.cache / mount.below(self.cache_on_host)
                return place / path.relative_to(mount.source)
        raise ValueError(f"no instance sees {path}")

    @property
    def enter_command(self) -> str | None:
        """The command that opens a shell in it; None for this machine."""
        if self.project is None:
            return None
        return enter_command(self.name, self.project)

    def run_script(
        self,
        name: str,
        environment: Mapping[str, str | PurePath],
        on_line: Callable[[str], None],
    ) -> None:
        """Run a script of resources/scripts with `environment`.

        Args:
            name: File name of the script.
            environment: Its parameters; paths are the instance's.
            on_line: Called with each line it prints.

        Raises:
            CommandError: It failed.
            LXDError: The instance or LXD was stopped, or the instance was deleted.
            OutputError: The cache directory is full.
        """
        command = ["bash", "-c", resources.script(name), name]
        # A start that failed for lxc may go on in the instance: then the next one waits for it.
        lock = SCRIPT_LOCKS / f"slurm-factory-{name}.lock"
        alone = ["flock", "--close", str(lock)] if self.project else []
        variables = {k: str(v) for k, v in environment.items()}
        self.run([*alone, *command], variables, on_line, what=name)

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
        *,
        what: str,
    ) -> None:
        """Run a command; retries if lxc fails to start it.

        Args:
            command: Program and arguments.
            environment: Variables in addition to those of every command.
            on_line: Called with each line it prints, without lxc's messages about a start that is
                retried.
            what: Name of the command in errors.

        Raises:
            CommandError: It failed.
            LXDError: The instance or LXD was stopped, or the instance was deleted.
            OutputError: The cache directory is full.
        """
        if self.delivery:
            self.delivery.bring_whole()
        for _ in range(ATTEMPTS):
            transient: list[str] = []
            process = start_with_secrets(self.executor, command, environment, self.secrets)
            returncode, tail = follow(process, _holding_back(TRANSIENT, transient, on_line))
            if returncode == 0 or not transient:
                break
            if self.reporter:
                self.reporter.line(f"lxc could not start {what}; trying again")
        for line in transient:
            on_line(line)
        if returncode != 0:
            raise self._failure(what, returncode, tail)

    def take_directory(
        self, directory: PurePosixPath, target: Path, *, links: bool = False
    ) -> None:
        """Copy a directory out of the instance, as a stream whose members are checked.

        Args:
            directory: Directory in the instance.
            target: Directory to make (host), which no instance sees.
            links: Allow links to something in the directory.

        Raises:
            VerificationError: It contains something that no honest build makes; see `unpack`.
            CommandError: It cannot be read.
            LXDError: The instance or LXD was stopped, or the instance was deleted.
            OutputError: It cannot be written.
        """
        command = [*TAR, f"--directory={directory}", "."]

        def take(stream: BinaryIO) -> bool:
            unpack(stream, target, links=links)
            return True

        self._receive(command, take, f"Reading {directory}")

    def fill(
        self,
        target: Path,
        script: str,
        parameters: Mapping[str, str | PurePath],
        on_line: Callable[[str], None],
    ) -> Path:
        """Run a script that fills a directory OUT in the instance, and take that out.

        Args:
            target: Directory to make (host), which no instance sees.
            script: File name of the script.
            parameters: Its parameters besides OUT.
            on_line: Called with each line it prints.

        Returns:
            `target`. Raises as `run_script` and `take_directory` do.
        """
        made = self.build_dir / target.name
        self.run_script(script, {**parameters, "OUT": made}, on_line)
        self.take_directory(made, target)
        return target

    def take_file(self, path: PurePosixPath, largest: int = LARGEST_FILE) -> bytes:
        """The content of a file in the instance.

        Args:
            path: The file (instance).
            largest: Limit for its size in bytes.

        Raises:
            VerificationError: It is larger.
            CommandError: It cannot be read.
            LXDError: The instance or LXD was stopped, or the instance was deleted.
        """

        def take(stream: BinaryIO) -> bytes:
            content = stream.read(largest + 1)
            if len(content) > largest:
                raise refused(f"{path} is larger than {largest >> 20} MiB.")
            return content

        return self._receive(["cat", "--", str(path)], take, f"Reading {path}")

    def _receive(self, command: Sequence[str], take: Callable[[BinaryIO], T], what: str) -> T:
        """Pass the output of a command to `take`; retries if lxc fails to start it."""
        for _ in range(ATTEMPTS):
            errors: deque[str] = deque(maxlen=TAIL_LINES)
            process = self.executor.execute_popen([*command], **STREAMED)
            try:
                taken = receive(process, partial(_take_some, process, take), errors)
            except VerificationError as error:
                # A failure of the program, of LXD, or of the instance is no attack.
                if isinstance(error, StreamEndedError) and process.returncode > 0:
                    raise self._failure(what, process.returncode, tuple(errors)) from error
                if self.project is not None:
                    require_running(self.name, self.project, what)
                raise
            if process.returncode == 0:
                return take(BytesIO()) if taken is None else taken
            if taken is not None or not any(TRANSIENT in line for line in errors):
                break
        raise self._failure(what, process.returncode, tuple(errors))

    def _failure(self, what: str, returncode: int, tail: Sequence[str]) -> SlurmFactoryError:
        if self.project is not None:
            try:
                require_running(self.name, self.project, what)
            except LXDError as error:
                return error
            if any(_says(tail, message) for message in CONNECTION_LOST):
                return LXDError(
                    f"{what} was aborted: the connection to LXD was lost.",
                    details="LXD was restarted, by an upgrade or after a crash.",
                    resolution="Run the command again.",
                )
        full = disk_full_lines(tail)
        if full and has_no_room(self.cache_on_host):
            return cache_is_full(f"{what} failed", self.cache_on_host, full[-1])
        return CommandError(what, returncode, tail)
