import fcntl
import gc
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TextIO

import pytest
from rich.cells import cell_len

from slurm_factory.exceptions import BuildError, InterruptedBuildError, OutputError
from slurm_factory.main import app
from slurm_factory.output.displays import Mode, choose_mode, make_display
from slurm_factory.output.log import BuildLog
from slurm_factory.output.records import Outcome, PackageProgress, SourceError, duration
from slurm_factory.output.reporter import Reporter, make_reporter
from slurm_factory.output.text import as_called, clean, mask_credentials, visible
from slurm_factory.util.signals import HELD

SECRET = "https://me:s3cret@proxy.example:3128/x"
PATIENCE = 300
"""Seconds after which what should be seen counts as not there."""
ERROR = BuildError("make failed.", details="no rule: 50%, sorry", resolution="Run make.")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def reporter_of(mode: Mode, stream: TextIO) -> Reporter:
    return Reporter(make_display(mode, stream))


def run_steps(reporter: Reporter) -> None:
    with reporter:
        with reporter.step("Configure"):
            reporter.line("checking for [bold]munge[/bold]… yes")
        with pytest.raises(BuildError):
            fail_in_make(reporter)
        reporter.error(ERROR)


def fail_in_make(reporter: Reporter) -> None:
    with reporter.step("Build"), reporter.step("make"):
        reporter.line("cc1: out of memory")
        raise ERROR


def fail_and_wrap(reporter: Reporter) -> None:
    try:
        fail_in_make(reporter)
    except BuildError as error:
        raise OutputError("wrapped") from error


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[1;31merror:\x1b[0m x\r\n", "error: x"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "link"),
        ("\x1b(B\x1b[?25l\x1bM|", "|"),
        (" 10%\r 50%\r100%\r\n", "100%"),
        ("a\tb", "a       b"),
        ("bell\x07 nul\x00 back\x08space \x9b2J", "bell nul backspace 2J"),
        ("[red]no markup[/red] ü 你好", "[red]no markup[/red] ü 你好"),
    ],
)
def test_lines_are_shown_as_a_terminal_would_leave_them(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http_proxy=http://u:p@h:3128 make", "http_proxy=http://***@h:3128 make"),
        ("see HTTPS://u:p@ss@h/a and ftp://u@h", "see HTTPS://***@h/a and ftp://***@h"),
        ("socks5h://u:p@h", "socks5h://***@h"),
        ("https_proxy=u:p@h:3128 make", "https_proxy=***@h:3128 make"),
        ("core.proxy_https=u:p@h:3128", "core.proxy_https=***@h:3128"),
        ("http_proxy='u:$p@h'; export http_proxy", "http_proxy='***@h'; export http_proxy"),
        ("mail me@example.org, https://h/x?mail=a@b", "mail me@example.org, https://h/x?mail=a@b"),
        ("git@host:repo ssh://git@host", "git@host:repo ssh://git@host"),
        ("/home/me/https:/u:p@h/x", "/home/me/https:/***@h/x"),
        ("https://u:p/w@h/x?mail=a@b", "https://***@h/x?mail=a@b"),
        ("https://u:p?w@h and https://u:p#w@h", "https://***@h and https://***@h"),
        ("https://u:p/@w@h/x", "https://***@h/x"),
        ("https_proxy=u:p/w@h:3128", "https_proxy=***@h:3128"),
        ("'https://u:p'w@h'", "'https://***@h'"),
        ("ssh://u:p@h s3://key:a/b@bucket", "ssh://***@h s3://***@bucket"),
        ("https://h:8080/x@v1 https://[::1]:80/a@b", "https://h:8080/x@v1 https://[::1]:80/a@b"),
        ('["https://h:80","x@y"]', '["https://h:80","x@y"]'),
        ("file:///a:b@c hdf5@1.14:%gcc@12", "file:///a:b@c hdf5@1.14:%gcc@12"),
    ],
)
def test_credentials_of_urls_are_masked_and_nothing_else(text: str, masked: str) -> None:
    assert mask_credentials(text) == masked
    assert mask_credentials(masked) == masked


@pytest.mark.parametrize(
    "line", ["@" + "http://a:b" * 9_000, "@" + "a." * 50_000, "http_proxy=" * 9]
)
def test_looking_for_credentials_ends_whatever_a_line_has(line: str) -> None:
    assert mask_credentials(line) == line


HOSTILE = "a\x1b[2J\x9b1m\x07\r\x7f\u202eb\udc9b"
HARMLESS = r"a\x1b[2J\x9b1m\x07\r\x7f\u202eb\udc9b"


def test_what_a_terminal_acts_on_is_shown_as_an_escape() -> None:
    assert visible(HOSTILE) == HARMLESS
    assert visible("ü\t你\n\udcff") == "ü\t你\n\udcff"


@pytest.mark.parametrize("mode", Mode)
def test_no_control_character_of_a_message_reaches_screen_or_log(
    mode: Mode, tmp_path: Path
) -> None:
    stream = Terminal()
    with reporter_of(mode, stream) as reporter:
        log = reporter.log_to(tmp_path)
        with reporter.step(HOSTILE):
            reporter.packages(PackageProgress(1, 2, 0, active=(HOSTILE,), last=HOSTILE))
        reporter.note(HOSTILE)
        reporter.warning(HOSTILE)
        reporter.error(BuildError(HOSTILE, details=HOSTILE, resolution=HOSTILE))
    assert HARMLESS in stream.getvalue()
    written = log.read_text() + log.with_name("events.jsonl").read_text()
    for control in ("\x1b[2J", "\x9b", "\x07", "\x7f", "\u202e"):
        assert control not in stream.getvalue()
        assert control not in written


@pytest.fixture
def not_in_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program as `make build` leaves it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/slurm-factory", "build"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Run `slurm-factory setup`.", "Run `.venv/bin/slurm-factory setup`."),
        ("sg lxd -c 'slurm-factory build …'", "sg lxd -c '.venv/bin/slurm-factory build …'"),
        ("run: slurm-factory --quiet build", "run: .venv/bin/slurm-factory --quiet build"),
        ("slurm-factory cannot install LXD", None),
        ("lxc --project slurm-factory list", None),
        ("/home/a/.slurm-factory/logs/x, /opt/slurm-factory build", None),
    ],
)
def test_printed_command_can_be_pasted_where_the_program_is_not_in_path(
    not_in_path: None, text: str, shown: str | None
) -> None:
    stream = io.StringIO()
    with make_reporter(stream=stream, environment={}) as reporter:
        reporter.note(text)
        reporter.warning(text)
        reporter.error(BuildError("brief", details=text, resolution=text))
    assert stream.getvalue().count(shown or text) == 4


def test_every_command_of_the_program_is_known_where_it_is_printed(not_in_path: None) -> None:
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        assert as_called(f"slurm-factory {name}") == f".venv/bin/slurm-factory {name}"


def test_program_that_was_started_as_a_module_is_printed_as_one(
    not_in_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/a/slurm_factory/__main__.py", "build"])
    assert as_called("slurm-factory setup") == f"{sys.executable} -m slurm_factory setup"


def test_program_in_path_is_printed_by_its_name(not_in_path: None, tmp_path: Path) -> None:
    (tmp_path / "slurm-factory").touch(0o755)
    assert as_called("slurm-factory setup") == "slurm-factory setup"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3720, "1 h 02 min"),
    ],
)
def test_durations_never_read_60_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("stream", "environment", "flags", "mode"),
    [
        (Terminal(), {"TERM": "xterm"}, {}, Mode.LIVE),
        (Terminal(), {"TERM": "dumb"}, {}, Mode.PLAIN),
        (Terminal(), {}, {}, Mode.PLAIN),
        (io.StringIO(), {"TERM": "xterm"}, {}, Mode.PLAIN),
        (Terminal(), {"TERM": "xterm", "GITHUB_ACTIONS": "true"}, {}, Mode.GITHUB),
        (Terminal(), {"TERM": "xterm"}, {"verbose": True}, Mode.VERBOSE),
        (Terminal(), {"GITHUB_ACTIONS": "true"}, {"quiet": True}, Mode.QUIET),
    ],
)
def test_the_mode_suits_where_the_output_goes(
    stream: TextIO, environment: dict[str, str], flags: dict[str, bool], mode: Mode
) -> None:
    assert choose_mode(stream, environment, **flags) is mode


def test_plain_output_has_timed_steps_and_the_last_lines_of_a_failure() -> None:
    stream = io.StringIO()
    run_steps(reporter_of(Mode.PLAIN, stream))
    lines = re.sub(r"\d+\.\d", "0.0", stream.getvalue()).splitlines()
    assert lines == [
        "[    0.0s] Configure …",
        "[    0.0s] Configure done in 0.0 s",
        "[    0.0s] Build …",
        "[    0.0s]   make …",
        "    cc1: out of memory",
        "[    0.0s]   make failed after 0.0 s",
        "Error: make failed.",
        "  no rule: 50%, sorry",
        "  Run make.",
    ]


def test_verbose_output_shows_lines_once_and_without_interpreting_them() -> None:
    stream = io.StringIO()
    run_steps(reporter_of(Mode.VERBOSE, stream))
    assert "\nchecking for [bold]munge[/bold]… yes\n" in stream.getvalue()
    assert stream.getvalue().count("out of memory") == 1


def test_quiet_output_is_the_error_only(tmp_path: Path) -> None:
    stream = io.StringIO()
    reporter = reporter_of(Mode.QUIET, stream)
    log = reporter.log_to(tmp_path)
    reporter.warning("unseen")
    run_steps(reporter)
    assert stream.getvalue() == (
        f"Error: make failed.\n  no rule: 50%, sorry\n  Run make.\n  log: {log}\n"
    )


def test_github_output_has_groups_and_commands() -> None:
    stream = io.StringIO()
    reporter = reporter_of(Mode.GITHUB, stream)
    reporter.warning("two\nlines, 5%\r")
    run_steps(reporter)
    lines = re.sub(r"\d+\.\d s", "0.0 s", stream.getvalue()).splitlines()
    assert lines == [
        "::warning::two%0Alines, 5%25\\r",
        "::group::Configure",
        "checking for [bold]munge[/bold]… yes",
        "::endgroup::",
        "✓ 0.0 s Configure",
        "::group::Build",
        "::endgroup::",
        "::group::  make",
        "cc1: out of memory",
        "::endgroup::",
        "✗ 0.0 s make",
        "::error title=make failed.::make failed.%0Ano rule: 50%25, sorry%0ARun make.",
    ]


@pytest.mark.parametrize("line", ["::error::no", "  ::set-output name=x::y", "a ##[group]b"])
def test_output_of_a_compiler_is_not_a_workflow_command(line: str) -> None:
    stream = io.StringIO()
    reporter_of(Mode.GITHUB, stream).line(line)
    assert not stream.getvalue().lstrip().startswith("::")
    assert "##[" not in stream.getvalue()


def test_error_title_cannot_end_the_property_early() -> None:
    stream = io.StringIO()
    reporter_of(Mode.GITHUB, stream).error(BuildError("a: b, c::d"))
    assert stream.getvalue() == "::error title=a%3A b%2C c%3A%3Ad::a: b, c::d\n"


def test_an_error_of_a_compiler_is_an_annotation_of_its_line() -> None:
    stream = io.StringIO()
    reporter = reporter_of(Mode.GITHUB, stream)
    reporter.source_error(SourceError("src/a,b:c.c", 12, 5, "100% wrong\nhere"))
    reporter.source_error(SourceError("x\r\n.c::error", 1, 0, "https://u:p@host/ ::x"))
    assert stream.getvalue().splitlines() == [
        "::error file=src/a%2Cb%3Ac.c,line=12,col=5,title=Compiler error::100%25 wrong%0Ahere",
        "::error file=x\\r%0A.c%3A%3Aerror,line=1,title=Compiler error::https://***@host/ ::x",
    ]
    plain = io.StringIO()
    reporter_of(Mode.PLAIN, plain).source_error(SourceError("a.c", 1, 0, "seen as a line"))
    assert plain.getvalue() == ""


def test_steps_are_recorded_in_the_order_in_which_they_began() -> None:
    reporter = reporter_of(Mode.QUIET, io.StringIO())
    with reporter.step("Prepare"):
        pass
    with pytest.raises(KeyboardInterrupt), reporter.step("Build"), reporter.step("make"):
        raise KeyboardInterrupt
    with pytest.raises(InterruptedBuildError), reporter.step("Pack"):
        raise InterruptedBuildError("stopped")
    seen = [(step.name, step.depth, step.outcome, step.propagated) for step in reporter.steps]
    assert seen == [
        ("Prepare", 0, Outcome.DONE, False),
        ("Build", 0, Outcome.INTERRUPTED, True),
        ("make", 1, Outcome.INTERRUPTED, False),
        ("Pack", 0, Outcome.INTERRUPTED, False),
    ]
    assert all(step.seconds >= 0 for step in reporter.steps)


def test_only_the_innermost_step_is_blamed_though_the_error_is_wrapped_on_its_way() -> None:
    reporter = reporter_of(Mode.QUIET, io.StringIO())
    with pytest.raises(OutputError), reporter.step("outer"):
        fail_and_wrap(reporter)
    assert [step.propagated for step in reporter.steps] == [True, True, False]


def test_log_has_everything_with_times_and_no_credentials(tmp_path: Path) -> None:
    reporter = reporter_of(Mode.QUIET, io.StringIO())
    path = reporter.log_to(tmp_path / "logs" / "id")
    reporter.warning(f"slow {SECRET}")
    for line in ("one", "two", f"three {SECRET}"):
        reporter.line(line)
    run_steps(reporter)
    text = path.read_text()
    for wanted in ("one", "two", "three https://***@proxy", "Step: Configure", "munge"):
        assert wanted in text
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 ", x) for x in text.split("\n")[:9]
    )
    events = [json.loads(line) for line in path.with_name("events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == [
        *("warning", "step-start", "step-end"),
        *("step-start", "step-start", "step-end", "step-end", "error"),
    ]
    assert {event["version"] for event in events} == {1}
    assert events[-1]["exit_code"] == 1
    assert events[2]["outcome"] == "done"
    assert "s3cret" not in text + path.with_name("events.jsonl").read_text()


def test_log_is_complete_when_the_process_dies(tmp_path: Path) -> None:
    log = BuildLog(tmp_path)
    log.write("last words")
    assert "last words" in log.path.read_text()
    log.close()


def test_log_on_a_full_disk_does_not_hide_the_real_error(tmp_path: Path) -> None:
    (tmp_path / "build.log").symlink_to("/dev/full")
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    stream = io.StringIO()
    reporter = reporter_of(Mode.PLAIN, stream)
    reporter.log_to(tmp_path)
    run_steps(reporter)
    assert stream.getvalue().count("is incomplete: [Errno 28]") == 1
    assert "Error: make failed." in stream.getvalue()


def test_log_that_cannot_be_begun_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be written"):
        reporter_of(Mode.QUIET, io.StringIO()).log_to(tmp_path / "file" / "id")


def test_credentials_do_not_reach_the_screen() -> None:
    stream = io.StringIO()
    reporter = reporter_of(Mode.VERBOSE, stream)
    reporter.note(SECRET)
    reporter.warning(SECRET)
    reporter.line(SECRET)
    reporter.error(BuildError(SECRET, details=SECRET, resolution=SECRET))
    assert "s3cret" not in stream.getvalue()
    assert stream.getvalue().count("https://***@proxy.example") == 6


def test_screen_that_cannot_show_unicode_gets_escapes_instead_of_a_traceback() -> None:
    raw = io.BytesIO()
    run_steps(reporter_of(Mode.VERBOSE, io.TextIOWrapper(raw, "ascii", write_through=True)))
    assert b"Configure \\u2026" in raw.getvalue()


def in_subprocess(script: str, **streams: int) -> subprocess.CompletedProcess[bytes]:
    prelude = "from slurm_factory.output.reporter import make_reporter\n"
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": None} | streams
    return subprocess.run(
        [sys.executable, "-c", prelude + script],
        check=False,
        timeout=PATIENCE,
        env={**os.environ, "TERM": "xterm", "GITHUB_ACTIONS": "false", "PYTHONUNBUFFERED": ""},
        stdin=given["stdin"],
        stdout=given["stdout"],
        stderr=given["stderr"],
    )


def test_reader_that_goes_away_does_not_end_the_build() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    script = (
        "with make_reporter(verbose=True) as reporter, reporter.step('Build'):\n"
        "    for _ in range(3): reporter.line('x' * 100_000)\n"
        "print('built')\n"
    )
    done = in_subprocess(script, stderr=write_end)
    os.close(write_end)
    assert (done.returncode, done.stdout) == (0, b"built\n")


def test_progress_stays_out_of_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    run_steps(make_reporter(environment={}))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Configure" in captured.err


class Pty:
    """A terminal whose screen is read by the test."""

    def __init__(self, columns: int) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self.seen = ""

    def read_until(self, pattern: str, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            assert ready, f"{pattern!r} did not appear in {self.seen!r}"
            self.seen += os.read(self.master, 1 << 16).decode(errors="replace")

    def close(self) -> None:
        self.stream.close()
        os.close(self.master)


@pytest.fixture(params=[20, 300])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pty]:
    opened = Pty(request.param)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(request.param))
    yield opened
    opened.close()


def test_live_view_shows_the_step_and_the_last_line_cut_to_the_width(terminal: Pty) -> None:
    shown = threading.Event()

    def chatter(reporter: Reporter) -> None:
        count = 0
        while not shown.is_set():
            count += 1
            reporter.line(f"[bold]{count}[/bold] \x1b[2J你好 {'x' * 400}\n")

    with make_reporter(stream=terminal.stream, environment={"TERM": "xterm"}) as reporter:
        with reporter.step("Configure"):
            thread = threading.Thread(target=chatter, args=(reporter,))
            thread.start()
            terminal.read_until(r"\[bold\]\d+\[/bol")
            shown.set()
            thread.join()
        reporter.note("between steps")
    terminal.read_until(r"between steps")
    plain = clean_screen(terminal.seen)
    width = int(os.environ["COLUMNS"])
    frames = [line for line in plain if "bold" in line]
    assert frames
    assert all(cell_len(line) <= width and line.endswith("…") for line in frames)
    assert any(re.fullmatch(r"✓ \d\.\d s Configure", line) for line in plain)
    assert "\x1b[2J" not in terminal.seen
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")


def clean_screen(seen: str) -> list[str]:
    return [re.sub(r"\x1b\[[0-?]*[@-~]", "", x) for x in re.split(r"[\r\n]+|\x1b\[\d*A", seen)]


def test_live_view_leaves_finished_steps_and_blames_the_innermost(terminal: Pty) -> None:
    run_steps(make_reporter(stream=terminal.stream, environment={"TERM": "xterm"}))
    terminal.read_until("Run make")
    plain = "\n".join(clean_screen(terminal.seen))
    assert re.search(r"✓ \d\.\d s Configure\n", plain)
    assert re.search(r"cc1: out of memory\n", plain)
    assert re.search(r"  ✗ \d\.\d s make\n", plain)
    assert "\x1b[2m✗\x1b[0m" in terminal.seen, "the enclosing step is dim"
    assert "\x1b[1;31mError: make failed." in terminal.seen


def test_no_color_is_respected(terminal: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    run_steps(make_reporter(stream=terminal.stream, environment={"TERM": "xterm"}))
    terminal.read_until("Run make")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.seen)


def test_terminal_without_a_size_gets_a_live_view() -> None:
    with closing(Pty(0)) as screen:
        fcntl.ioctl(screen.stream, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        slave = screen.stream.fileno()
        script = (
            "with make_reporter() as reporter, reporter.step('Build'): reporter.line('x' * 200)\n"
            "from slurm_factory.output.stdout import print_table\n"
            "print_table(('Step', 'Time'), [('Build', '1 s')])\n"
        )
        done = in_subprocess(script, stdin=slave, stdout=slave, stderr=slave)
        assert done.returncode == 0
        screen.read_until(r"Time[\s\S]*Build")
        assert "✓" in screen.seen


def test_results_printed_during_a_step_stay_out_of_the_live_view(
    terminal: Pty, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = make_reporter(stream=terminal.stream, environment={"TERM": "xterm"})
    with reporter, reporter.step("Build"):
        print("result")  # noqa: T201
    assert capsys.readouterr().out == "result\n"
    terminal.read_until("✓")
    assert "result" not in terminal.seen


def test_error_is_not_followed_by_the_step_that_it_interrupts(terminal: Pty) -> None:
    reporter = make_reporter(stream=terminal.stream, environment={"TERM": "xterm"})
    with reporter, reporter.step("Build"):
        reporter.error(ERROR)
        reporter.note("the end")
    terminal.read_until("the end")
    text = "\n".join(clean_screen(terminal.seen))
    assert "Build" not in text[text.index("Error:") : text.index("the end")]
    assert "\x1b[2K" in terminal.seen, "the live view is erased, not left behind"


def test_lines_from_many_threads_all_reach_the_log_whole(tmp_path: Path, terminal: Pty) -> None:
    reporter = make_reporter(stream=terminal.stream, environment={"TERM": "xterm"})
    path = reporter.log_to(tmp_path)

    def talk(who: int) -> None:
        for number in range(50):
            reporter.line(f"<{who}-{number}>")

    with reporter, reporter.step("Build"):
        threads = [threading.Thread(target=talk, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    said = re.findall(r"^\S+ (<\d-\d+>)$", path.read_text(), re.MULTILINE)
    assert len(said) == len(set(said)) == 200


# --- packages of a Spack build ------------------------------------------------------------------

PROGRESS = PackageProgress(
    done=12,
    total=24,
    cached=9,
    active=("openssl@3.6: build (5.0 s)",),
    last="zlib@1.3 built in 1 s",
)


def shown_with(terminal: Terminal, text: str) -> str:
    """What the terminal shows once it shows `text`; the live view draws in a thread of its own."""
    while text not in terminal.getvalue():
        time.sleep(0.01)
    return terminal.getvalue()


def test_progress_of_packages_is_drawn_live_and_is_gone_with_its_step() -> None:
    terminal = Terminal()
    with make_reporter(stream=terminal, environment={"TERM": "xterm"}) as reporter:
        with reporter.step("Build packages"):
            reporter.line("some output")
            reporter.packages(PROGRESS)
            seen = shown_with(terminal, "of 24 packages")
        terminal.seek(0)
        terminal.truncate()
        with reporter.step("Collect"):
            shown_with(terminal, "Collect")
    assert "12 of 24 packages, 9 from the build cache" in seen
    assert "openssl@3.6: build" in seen
    assert "packages" not in terminal.getvalue()


@pytest.mark.parametrize("environment", [{}, {"GITHUB_ACTIONS": "true"}])
def test_without_a_terminal_each_finished_package_is_one_line(
    environment: dict[str, str],
) -> None:
    stream = io.StringIO()
    with make_reporter(stream=stream, environment=environment) as reporter:
        reporter.packages(PackageProgress(done=11, total=24, cached=9, active=("x: build",)))
        reporter.packages(PROGRESS)
    lines = [line for line in stream.getvalue().splitlines() if "packages" in line]
    assert len(lines) == 1
    assert "12 of 24 packages, 9 from the build cache: zlib@1.3 built in 1 s" in lines[0]


def test_finished_packages_are_events_of_the_log(tmp_path: Path) -> None:
    with make_reporter(quiet=True) as reporter:
        reporter.log_to(tmp_path)
        reporter.packages(PackageProgress(done=11, total=24, cached=9))
        reporter.packages(PROGRESS)
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["done"], event["total"], event["cached"]) == (
        "packages",
        12,
        24,
        9,
    )


def interrupted_at(call: int, mode: Mode) -> tuple[bool, str]:
    """Interrupt a step and a note as one of their functions, of Rich too, begins.

    Returns whether there are that many calls, and what the screen shows after the error.
    """
    screen, left = io.StringIO(), call

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGINT)

    with reporter_of(mode, screen) as reporter:
        try:
            sys.settrace(count)
            with reporter.step("Pack"):
                reporter.note("An instance is kept.")
        except KeyboardInterrupt:
            sys.settrace(None)
            reporter.error(InterruptedBuildError("Interrupted."))
        finally:
            sys.settrace(None)
    return left <= 0, screen.getvalue()


@pytest.fixture
def handlers() -> Iterator[None]:
    """An interrupt may come while they are set; the program's own handler sets all of them."""
    before = {number: signal.getsignal(number) for number in HELD}
    # Python only reports what is raised in what the collector calls.
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("mode", Mode)
def test_message_is_shown_wherever_ctrl_c_comes(mode: Mode) -> None:
    call = 1
    while (shown := interrupted_at(call, mode))[0]:
        assert "Interrupted." in shown[1]
        call += 1
    assert call > 20


def test_step_that_is_interrupted_as_it_is_shown_ends() -> None:
    screen = io.StringIO()
    display = make_display(Mode.PLAIN, screen)
    show = display.step_started

    def show_and_interrupt(name: str, depth: int) -> None:
        show(name, depth)
        signal.raise_signal(signal.SIGINT)

    display.step_started = show_and_interrupt  # type: ignore[method-assign]
    with Reporter(display) as reporter, pytest.raises(KeyboardInterrupt), reporter.step("Pack"):
        pass
    assert [line.split("] ")[1][:16] for line in screen.getvalue().splitlines()] == [
        "Pack …",
        "Pack interrupted",
    ]


def test_another_program_reads_the_events_in_a_file_that_it_has_made(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("before\n")
    with reporter_of(Mode.PLAIN, io.StringIO()) as reporter:
        reporter.copy_events(file)
        reporter.warning("something")
    first, *events = file.read_text().splitlines()
    assert first == "before"
    assert [json.loads(event)["text"] for event in events] == ["something"]


def test_no_file_is_made_for_events_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    missing, pipe = tmp_path / "missing", tmp_path / "pipe"
    os.mkfifo(pipe)
    with reporter_of(Mode.PLAIN, io.StringIO()) as reporter:
        for file in (missing, pipe):
            with pytest.raises(OutputError, match=file.name):
                reporter.copy_events(file)
    assert not missing.exists()
