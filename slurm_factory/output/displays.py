"""How progress looks: on a terminal, in a file, on GitHub Actions, or not at all."""

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum, auto
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from slurm_factory.output.records import (
    ErrorText,
    Outcome,
    PackageProgress,
    SourceError,
    StepRecord,
    duration,
)
from slurm_factory.output.stream import safe

REFRESHES_PER_SECOND = 8


class Mode(StrEnum):
    """One display each."""

    LIVE = auto()
    PLAIN = auto()
    VERBOSE = auto()
    GITHUB = auto()
    QUIET = auto()


def choose_mode(
    stream: TextIO, environment: Mapping[str, str], *, verbose: bool = False, quiet: bool = False
) -> Mode:
    """The mode for `stream` (normally stderr)."""
    if quiet:
        return Mode.QUIET
    if environment.get("GITHUB_ACTIONS") == "true":
        return Mode.GITHUB
    if verbose:
        return Mode.VERBOSE
    movable = environment.get("TERM", "dumb") not in {"", "dumb", "unknown"}
    return Mode.LIVE if movable and stream.isatty() else Mode.PLAIN


class QuietDisplay:
    """Errors only. The other displays override methods to show more."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=safe(stream), soft_wrap=True)

    def step_started(self, name: str, depth: int) -> None:
        """A step begins, inside `depth` others."""

    def failed_output(self, lines: Sequence[str]) -> None:
        """The last output lines of a failed step, before it ends."""

    def step_ended(self, record: StepRecord) -> None:
        """A step is over."""

    def line(self, text: str) -> None:
        """A line of a running command's output."""

    def passing(self, text: str) -> None:
        """A transient message, such as progress."""

    def packages(self, progress: PackageProgress) -> None:
        """Progress of the packages of the running step; `last` only if one has just finished."""

    def board(self, lines: Sequence[str]) -> None:
        """The state of many builds, which replaces that of before; only a live screen shows it."""

    def build_ended(self, text: str, outcome: Outcome, _log: Sequence[str], /) -> None:
        """One of many builds has ended, whose log ends so."""

    def source_error(self, error: SourceError) -> None:
        """The first error of a compiler; `line` has shown it, too."""

    def note(self, text: str) -> None:
        """A message for the user."""

    def warning(self, text: str) -> None:
        """A warning for the user."""

    def error(self, error: ErrorText) -> None:
        """What failed, why, and what to do."""
        text = Text.assemble((f"Error: {error.brief}", "bold red"))
        for part in error.explanation:
            text.append(f"\n  {part}")
        self.console.print(text)

    def close(self) -> None:
        """Nothing will follow."""

    def raw(self, line: str) -> None:
        """Write a line without formatting, which is ten times faster."""
        self.console.file.write(f"{line}\n")


class PlainDisplay(QuietDisplay):
    """Lines with the time since the start; output of commands if `verbose`."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        super().__init__(stream)
        self._verbose = verbose
        self._started = time.monotonic()

    def step_started(self, name: str, depth: int) -> None:
        self._print(f"{'  ' * depth}{name} …")

    def failed_output(self, lines: Sequence[str]) -> None:
        if not self._verbose:
            for line in lines:
                self.raw(f"    {line}")

    def step_ended(self, record: StepRecord) -> None:
        if record.propagated:
            return
        preposition = "in" if record.outcome is Outcome.DONE else "after"
        took = duration(record.seconds)
        self._print(f"{'  ' * record.depth}{record.name} {record.outcome} {preposition} {took}")

    def line(self, text: str) -> None:
        if self._verbose:
            self.raw(text)

    def packages(self, progress: PackageProgress) -> None:
        if progress.last:
            self._print(f"{progress.summary}: {progress.last}")

    def build_ended(self, text: str, outcome: Outcome, _log: Sequence[str], /) -> None:
        self._print(text, style="" if outcome is Outcome.DONE else "red")

    def note(self, text: str) -> None:
        self._print(text)

    def warning(self, text: str) -> None:
        self._print(f"Warning: {text}", style="yellow")

    def _print(self, text: str, style: str = "") -> None:
        elapsed = f"[{time.monotonic() - self._started:7.1f}s]"
        self.console.print(Text(f"{elapsed} {text}", style=style))


class GitHubDisplay(QuietDisplay):
    """Workflow commands of GitHub Actions.

    The syntax is that of docs.github.com, "Workflow commands for GitHub Actions".
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._in_group = False

    def step_started(self, name: str, depth: int) -> None:
        self._end_group()
        self._command("group", f"{'  ' * depth}{name}")
        self._in_group = True

    def step_ended(self, record: StepRecord) -> None:
        self._end_group()
        if not record.propagated:
            self.line(
                f"{_symbol(record.outcome, self.console)} {duration(record.seconds)} {record.name}"
            )

    def line(self, text: str) -> None:
        # GitHub must not interpret compiler output as workflow commands.
        harmless = f". {text}" if text.lstrip().startswith("::") else text
        self.raw(harmless.replace("##[", "## ["))

    def packages(self, progress: PackageProgress) -> None:
        if progress.last:
            self.line(f"{progress.summary}: {progress.last}")

    def build_ended(self, text: str, outcome: Outcome, log: Sequence[str], /) -> None:
        self._end_group()
        self._command("group", text)
        for line in log:
            self.line(line)
        self._command("endgroup", "")
        if outcome is Outcome.FAILED:
            self._command("error", text)

    def source_error(self, error: SourceError) -> None:
        place = {"file": error.file, "line": str(error.line)}
        place |= {"col": str(error.column)} if error.column else {}
        self._command("error", error.text, **place, title="Compiler error")

    def note(self, text: str) -> None:
        self.line(text)

    def warning(self, text: str) -> None:
        self._command("warning", text)

    def error(self, error: ErrorText) -> None:
        self._end_group()
        self._command("error", "\n".join((error.brief, *error.explanation)), title=error.brief)

    def close(self) -> None:
        self._end_group()

    def _end_group(self) -> None:
        if self._in_group:
            self._command("endgroup", "")
        self._in_group = False

    def _command(self, name: str, value: str, **properties: str) -> None:
        pairs = ",".join(f"{key}={_escaped_property(text)}" for key, text in properties.items())
        self.raw(f"::{name}{' ' * bool(pairs)}{pairs}::{_escaped_data(value)}")


class LiveDisplay(QuietDisplay):
    """Redraws running steps and the last line of output in place; finished steps stay."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._view = _LiveView(self.console)
        self._live: Live | None = None

    def step_started(self, name: str, depth: int) -> None:
        self._view.push(f"{'  ' * depth}{name}")
        if self._live is None:
            self._live = Live(
                self._view,
                console=self.console,
                transient=True,
                refresh_per_second=REFRESHES_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def failed_output(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.console.print(Text(f"    {line}", style="dim"))

    def step_ended(self, record: StepRecord) -> None:
        self._view.pop()
        if self._view.empty:
            self._stop()
        color = "green" if record.outcome is Outcome.DONE else "red"
        style = "dim" if record.propagated else color
        symbol = f"{'  ' * record.depth}{_symbol(record.outcome, self.console)}"
        took = f" {duration(record.seconds)} "
        self.console.print(Text.assemble((symbol, style), (took, "dim"), record.name))

    def line(self, text: str) -> None:
        self._view.last_line = text

    def passing(self, text: str) -> None:
        self._view.last_line = text

    def packages(self, progress: PackageProgress) -> None:
        self._view.packages = (progress.summary, *progress.active)

    def board(self, lines: Sequence[str]) -> None:
        self._view.packages = tuple(lines)

    def build_ended(self, text: str, outcome: Outcome, _log: Sequence[str], /) -> None:
        symbol = _symbol(outcome, self.console)
        style = "green" if outcome is Outcome.DONE else "red"
        self.console.print(Text.assemble((symbol, style), f" {text}"))

    def note(self, text: str) -> None:
        self.console.print(Text(text))

    def warning(self, text: str) -> None:
        self.console.print(Text(f"Warning: {text}", style="yellow"))

    def error(self, error: ErrorText) -> None:
        self._stop()
        super().error(error)

    def close(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
        self._live = None


class _LiveView:
    """The redrawn part; the redrawing thread reads it."""

    def __init__(self, console: Console) -> None:
        self.last_line = ""
        self.packages: tuple[str, ...] = ()
        self._steps: tuple[tuple[str, float], ...] = ()
        self._spinner = Spinner("dots" if _unicode(console) else "line")

    @property
    def empty(self) -> bool:
        return not self._steps

    def push(self, name: str) -> None:
        self._steps = (*self._steps, (name, time.monotonic()))
        self.last_line, self.packages = "", ()

    def pop(self) -> None:
        self._steps = self._steps[:-1]
        self.last_line, self.packages = "", ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        frame = str(self._spinner.render(console.get_time()))
        lines = [
            Text.assemble((frame, "cyan"), f" {duration(time.monotonic() - began)} {name}")
            for name, began in self._steps
        ]
        lines += [Text(f"  {line}") for line in self.packages]
        if self.last_line and not self.packages:
            lines.append(Text(f"  {self.last_line}", style="dim"))
        for line in lines:
            line.truncate(options.max_width, overflow="ellipsis" if _unicode(console) else "crop")
            line.no_wrap = True
            yield line


def make_display(mode: Mode, stream: TextIO) -> QuietDisplay:
    """The display of a mode, on `stream`."""
    match mode:
        case Mode.LIVE:
            return LiveDisplay(stream)
        case Mode.GITHUB:
            return GitHubDisplay(stream)
        case Mode.QUIET:
            return QuietDisplay(stream)
        case Mode.PLAIN | Mode.VERBOSE:
            return PlainDisplay(stream, verbose=mode is Mode.VERBOSE)


def _symbol(outcome: Outcome, console: Console) -> str:
    good, bad = ("✓", "✗") if _unicode(console) else ("ok", "failed")
    return good if outcome is Outcome.DONE else bad


def _unicode(console: Console) -> bool:
    return console.encoding.startswith("utf")


def _escaped_property(text: str) -> str:
    return _escaped_data(text).replace(":", "%3A").replace(",", "%2C")


def _escaped_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
