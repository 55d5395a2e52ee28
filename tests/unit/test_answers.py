"""What reaches stdout, whatever that is: a terminal, a file, a closed pipe."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from package_samples import stage

from slurm_factory.exceptions import ConfigurationError, DownloadError, OutputError
from slurm_factory.output.stdout import (
    READER_GONE,
    describe,
    print_document,
    print_line,
    print_table,
)
from slurm_factory.package.publish import publish

BUILD = ("build", "--slurm-version", "24.11", "--base", "debian@12", "--deps", "system")
TEXTS = ("plain", "päckchen", "\x1b[1mbold\x1b[0m", "two\nlines", "", "☃ \udcff")


class Target(io.BytesIO):
    """Where stdout leads: a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def written(encoding: str, *prints: Callable[[], object], terminal: bool = False) -> bytes:
    """What has arrived without any further flush."""
    target = Target(terminal=terminal)
    with contextlib.redirect_stdout(io.TextIOWrapper(target, encoding)):
        for print_it in prints:
            print_it()
        return target.getvalue()


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_line_arrives_as_the_framework_of_the_command_line_would_write_it(
    text: str, encoding: str, terminal: bool
) -> None:
    ours = written(encoding, lambda: print_line(text), terminal=terminal)
    try:
        theirs = written(encoding, lambda: typer.echo(text), terminal=terminal)
    except UnicodeEncodeError:
        assert ours.endswith(b"\n"), "refused by the framework, readable here"
    else:
        if encoding == "ascii" and "\udcff" in text:
            theirs = theirs.replace(b"?", b"\xff")
        assert ours == theirs


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", b"\xe2\x98\x83\xff\n"), ("ascii", b"\xe2\x98\x83\xff\n"), ("latin-1", b"??\n")],
)
def test_a_name_that_stdout_cannot_show_is_no_traceback(encoding: str, expected: bytes) -> None:
    table = (("Path",), [("☃\udcff",)])
    assert written(encoding, lambda: print_line("☃\udcff")) == expected
    assert expected.rstrip() in written(encoding, lambda: print_table(*table))


def test_a_table_for_nobody_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (("Path",), [("a",)])
    monkeypatch.setattr(sys, "stdout", None)
    print_table(*table)
    print_line("a")


def test_lines_and_tables_arrive_in_order_where_stdout_takes_ascii_only() -> None:
    table = (("Head",), [("row",)])
    told = written(
        "ascii",
        lambda: print_line("first ä"),
        lambda: print_table(*table),
        lambda: print_line("last"),
    ).decode()
    assert re.findall(r"first ä|Head|row|last", told) == ["first ä", "Head", "row", "last"]


def test_a_line_that_another_print_has_left_in_the_buffer_comes_first() -> None:
    told = written("ascii", lambda: sys.stdout.write("a"), lambda: print_line("ä"))
    assert told.decode() == "aä\n"


def test_a_stdout_that_was_closed_before_the_start_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    print_line("x")
    print_document({})


def test_a_table_is_not_folded_where_no_terminal_sets_its_width() -> None:
    table = (("Path",), [("x" * 4096,)])
    assert b"x" * 4096 in written("utf-8", lambda: print_table(*table))


def test_a_table_without_rows_is_a_sentence_where_there_is_one() -> None:
    assert written("utf-8", lambda: print_table(("Path",), [], "None.")) == b"None.\n"
    assert b"Path" in written("utf-8", lambda: print_table(("Path",), []))


def test_credentials_are_masked_wherever_they_are_in_a_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_document({"a": [{"b": "http://u:secret@h/x", "c": Path("/p")}], "n": 1, "none": None})
    told = capsys.readouterr().out
    assert "secret" not in told
    assert '"http://***@h/x"' in told
    assert '"/p"' in told
    assert told.startswith('{\n  "version": ')


def test_an_error_in_a_document_has_all_that_people_are_told() -> None:
    error = DownloadError("What.", details="Why.", resolution="Do.")
    told: dict[str, Any] = {"brief": "What.", "details": "Why.", "resolution": "Do."}
    assert describe(error) == {"exit_code": 4, **told}


@pytest.mark.parametrize(
    "arguments", [("versions",), ("versions", "--json"), ("list",), (*BUILD, "--dry-run")]
)
def test_a_reader_that_has_gone_ends_a_command_without_a_word(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    publish(stage(tmp_path / "staged"), tmp_path / "cache/builds/24.11")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "slurm_factory", *arguments],
        env={**os.environ, "SLURM_FACTORY_CACHE_DIR": str(tmp_path / "cache")},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (READER_GONE, b"")


@pytest.mark.parametrize("target", ["/dev/full", None])
def test_an_error_that_nobody_reads_as_json_keeps_its_exit_code(
    tmp_path: Path, target: str | None
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with Path(target).open("wb") if target else os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "slurm_factory", "build", "--slurm-version", "1", "--json"],
            env={**os.environ, "SLURM_FACTORY_CACHE_DIR": str(tmp_path)},
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == ConfigurationError.exit_code
    assert len(done.stderr.splitlines()) == 3


def test_paths_that_look_like_markup_are_printed_as_they_are() -> None:
    table = (("Path",), [("[red]x:smile:",)])
    assert b"[red]x:smile:" in written("utf-8", lambda: print_table(*table))


@pytest.mark.parametrize(
    "command", [("--version",), ("versions",), ("versions", "--json"), ("list",)]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_answer_for_a_full_disk_is_told_in_three_lines(
    command: tuple[str, ...], unbuffered: str, tmp_path: Path
) -> None:
    own = {"SLURM_FACTORY_CACHE_DIR": str(tmp_path), "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "slurm_factory", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, **own},
            check=False,
        )
    assert done.returncode == OutputError.exit_code
    assert len(done.stderr.splitlines()) == 3
    assert b"No space left on device" in done.stderr
