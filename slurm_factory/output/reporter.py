"""The object that passes the progress of a build to the screen and the log."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, Self, TextIO

from slurm_factory.exceptions import InterruptedBuildError, SlurmFactoryError
from slurm_factory.output.displays import QuietDisplay, choose_mode, make_display
from slurm_factory.output.log import BuildLog, event_line
from slurm_factory.output.records import (
    ErrorText,
    Outcome,
    PackageProgress,
    SourceError,
    StepRecord,
)
from slurm_factory.output.text import as_called, clean, mask_credentials, shown, visible
from slurm_factory.util.files import file_errors
from slurm_factory.util.signals import is_interrupt, signals_held

TAIL_LINES: Final = 10
MEGABYTE: Final = 1_000_000


class Reporter:
    """Progress of one run of the program, on stderr and, once there is one, in the build log.

    Steps follow and enclose each other in one thread; lines may come from any thread. Failures to
    write to the screen or the log raise nothing. Credentials in URLs are masked everywhere, and no
    control character of a name or a message reaches the screen or the log.

    Attributes:
        steps: The steps that have ended, in the order in which they began.
        subject: Subject of the steps, such as the name of a package; empty: not known yet.
    """

    def __init__(self, display: QuietDisplay) -> None:
        self.steps: list[StepRecord] = []
        self.subject = ""
        self._display = display
        self._log: BuildLog | None = None
        self._copy: BinaryIO | None = None
        self._log_failure_told = False
        self._depth = 0
        self._raised_inside: BaseException | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._lock = threading.RLock()

    @property
    def log_path(self) -> Path | None:
        """`build.log` (host), if there is one."""
        return self._log.path if self._log else None

    def copy_events(self, file: Path) -> None:
        """Append all events from now on to a file (host) as well, which another program reads.

        That program has made it. A pipe that nobody reads is an error, and not waited for.

        Raises:
            OutputError: It does not exist, or cannot be opened.
        """
        with file_errors(file):
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
            self._copy = os.fdopen(descriptor, "ab", buffering=0)

    def log_to(self, directory: Path) -> Path:
        """Write the build log into a directory (host) from now on; returns the log's path.

        Raises:
            OutputError: The log cannot be made.
        """
        log = BuildLog(directory)
        with self._lock:
            if self._log:
                self._log.close()
            self._log = log
        return log.path

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A timed step: `with reporter.step("Configure"): …`. Steps may enclose steps."""
        name = _shown(name)
        place, depth, began = len(self.steps), self._depth, time.monotonic()
        outcome, propagated = Outcome.DONE, False
        try:
            self._begin(name)
            yield
        except BaseException as error:
            outcome, propagated = _outcome(error), self._is_propagated(error)
            raise
        finally:
            if self._depth > depth:  # An interrupt may have come before it began.
                seconds = time.monotonic() - began
                self._end(place, StepRecord(name, seconds, outcome, depth, propagated))

    def line(self, text: str) -> None:
        """A line of output of a running command; always goes to the log."""
        line = mask_credentials(clean(text))
        with self._lock:
            self._tail.append(line)
            self._write(line)
            self._display.line(line)

    def progress(self, received: int, total: int | None) -> None:
        """Progress of a download in bytes; only on a live screen."""
        of = f" of {total / MEGABYTE:.1f}" if total else ""
        with self._lock:
            self._display.passing(f"{received / MEGABYTE:.1f}{of} MB")

    def passing(self, text: str) -> None:
        """A transient message; only on a live screen."""
        shown = mask_credentials(clean(text))
        with self._lock:
            self._display.passing(shown)

    def packages(self, progress: PackageProgress) -> None:
        """Progress of the packages of the running step; logged when one is finished."""
        active = tuple(_shown(text) for text in progress.active)
        progress = replace(progress, active=active, last=_shown(progress.last))
        with self._drawing():
            if progress.last:
                text = f"{progress.summary}: {progress.last}"
                facts = {"total": progress.total, "cached": progress.cached}
                self._write(text, "packages", done=progress.done, last=progress.last, **facts)
            self._display.packages(progress)

    def board(self, lines: Sequence[str]) -> None:
        """The state of many builds at once, a line each; only on a live screen."""
        texts = tuple(_shown(line) for line in lines)
        with self._lock:
            self._display.board(texts)

    def build_ended(self, text: str, outcome: Outcome, log: Sequence[str] = ()) -> None:
        """One of many builds has ended.

        Args:
            text: Its name and how it ended, one line.
            outcome: How.
            log: The last lines of its own log.
        """
        text = _shown(text)
        lines = tuple(mask_credentials(clean(line)) for line in log)
        with self._drawing():
            self._write(text)
            self._display.build_ended(text, outcome, lines)

    def buildcache(self, url: str, hits: int, wanted: int) -> None:
        """How many of the wanted packages a remote build cache had."""
        shown = _shown(url)
        with self._drawing():
            text = f"The build cache {shown} had {hits} of {wanted} packages."
            self._write(text, "buildcache", url=shown, hits=hits, wanted=wanted)
            self._display.note(text)

    def source_error(self, error: SourceError) -> None:
        """The first error of a compiler, beside the line that has it."""
        error = replace(error, file=_shown(error.file), text=_shown(error.text))
        with self._drawing():
            self._display.source_error(error)

    def note(self, text: str) -> None:
        """Show the user a message of one line."""
        text = _shown(text)
        with self._drawing():
            self._write(text)
            self._display.note(text)

    def warning(self, text: str) -> None:
        """Show the user a warning of one line."""
        text = _shown(text)
        with self._drawing():
            self._write(f"Warning: {text}", "warning", text=text)
            self._display.warning(text)

    def error(self, error: SlurmFactoryError) -> None:
        """Show the error that ends the program."""
        text = ErrorText(
            brief=_shown(error.brief),
            details=_shown(error.details),
            resolution=_shown(error.resolution),
            log=self.log_path,
        )
        with self._drawing():
            self._write(
                f"Error: {visible(str(error))}",
                "error",
                brief=text.brief,
                details=text.details,
                resolution=text.resolution,
                exit_code=error.exit_code,
            )
            self._display.error(text)

    def close(self) -> None:
        """Close the screen and the log; report nothing afterwards."""
        with self._drawing():
            self._display.close()
            for file in (self._log, self._copy):
                if file:
                    file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """A console that an exception interrupts while it draws never writes anything again."""
        with signals_held(), self._lock:
            yield

    def _write(self, text: str, event: str = "", /, **facts: object) -> None:
        if event and self._copy:
            line = mask_credentials(event_line(event, facts))
            with suppress(OSError):
                self._copy.write(f"{line}\n".encode(errors="backslashreplace"))
        if not self._log:
            return
        self._log.write(text)
        if event:
            self._log.event(event, **facts)
        if self._log.broken and not self._log_failure_told:
            self._log_failure_told = True
            self._display.warning(f"{self._log.path} is incomplete: {self._log.broken}")

    def _begin(self, name: str) -> None:
        with self._drawing():
            depth = self._depth
            self._depth += 1
            self._tail.clear()
            self._write(f"Step: {name}", "step-start", name=name, depth=depth)
            self._display.step_started(name, depth)

    def _end(self, place: int, record: StepRecord) -> None:
        with self._drawing():
            self.steps.insert(place, record)
            self._depth = record.depth
            facts = {"name": record.name, "depth": record.depth, "outcome": record.outcome}
            text = f"Step {record.outcome} after {record.seconds:.3f} s: {record.name}"
            self._write(text, "step-end", seconds=round(record.seconds, 3), **facts)
            if record.outcome is Outcome.FAILED:
                self._display.failed_output(tuple(self._tail))
            self._display.step_ended(record)
            self._tail.clear()

    def _is_propagated(self, error: BaseException) -> bool:
        """Whether an error that ends a step has already ended one inside it."""
        known = self._raised_inside is not None and self._raised_inside in _chain(error)
        self._raised_inside = error
        return known


def make_reporter(
    *,
    verbose: bool = False,
    quiet: bool = False,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Reporter:
    """A reporter whose display suits the stream (default: stderr) and the environment."""
    screen = stream or sys.stderr
    mode = choose_mode(screen, environment, verbose=verbose, quiet=quiet)
    return Reporter(make_display(mode, screen))


def _shown(text: str) -> str:
    return as_called(shown(text))


def _outcome(error: BaseException) -> Outcome:
    interrupted = isinstance(error, InterruptedBuildError) or is_interrupt(error)
    return Outcome.INTERRUPTED if interrupted else Outcome.FAILED


def _chain(error: BaseException) -> list[BaseException]:
    below = error.__cause__ or error.__context__
    return [error, *(_chain(below) if below else [])]
