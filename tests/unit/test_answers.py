"""Output on stdout: a terminal, a file, a closed pipe."""

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from package_samples import stage
from typer.testing import CliRunner

from slurm_factory import answers
from slurm_factory.exceptions import ConfigurationError, DownloadError, OutputError
from slurm_factory.main import app
from slurm_factory.output.stdout import Cell, describe, print_document, print_line, print_table
from slurm_factory.package.publish import find_artifacts, publish
from slurm_factory.plan import releases

TODAY = date(2026, 11, 28)
BUILD = ("build", "--slurm-version", "24.11", "--base", "debian@12", "--deps", "system")


class Target(io.BytesIO):
    """Where stdout leads: a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def written(encoding: str, *prints: Callable[[], object], terminal: bool = False) -> bytes:
    """Output without another flush."""
    target = Target(terminal=terminal)
    with contextlib.redirect_stdout(io.TextIOWrapper(target, encoding)):
        for print_it in prints:
            print_it()
        return target.getvalue()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", b"\xe2\x98\x83\xff\n"), ("ascii", b"\xe2\x98\x83\xff\n"), ("latin-1", b"??\n")],
)
def test_a_name_that_stdout_cannot_show_causes_no_traceback(encoding: str, expected: bytes) -> None:
    table = (("Path",), [("☃\udcff",)])
    assert written(encoding, lambda: print_line("☃\udcff")) == expected
    assert expected.rstrip() in written(encoding, lambda: print_table(*table))


def test_a_table_for_nobody_causes_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_stdout_that_was_closed_before_the_start_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    print_line("x")
    print_document({})


def test_a_table_is_not_folded_where_no_terminal_sets_its_width() -> None:
    table = (("Path",), [("x" * 4096,)])
    assert b"x" * 4096 in written("utf-8", lambda: print_table(*table))


def test_a_table_that_does_not_fit_a_terminal_is_read_row_by_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names in pieces could neither be read nor copied."""
    path = f"/root/.slurm-factory/builds/{'x' * 40}"
    rows: list[tuple[Cell, ...]] = [
        (path, "25.05.8", "", ("a\tb", "c")),
        ("/b", "24.11.7", "x", "y"),
    ]
    table = (("Build", "Release", "Size", "State"), rows)
    monkeypatch.setenv("COLUMNS", "60")
    text = written("utf-8", lambda: print_table(*table), terminal=True).decode()
    assert text == (
        f" Build    {path}\n Release  25.05.8\n State    a b\n          c\n\n"
        " Build    /b\n Release  24.11.7\n Size     x\n State    y\n\n"
    )
    monkeypatch.setenv("COLUMNS", "200")
    assert path in written("utf-8", lambda: print_table(*table), terminal=True).decode()


def test_names_at_the_beginning_of_rows_are_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    table = (
        ("Setting", "Value"),
        [("spack_unsigned_buildcaches", "https://x.example/" + "y" * 50)],
    )
    text = written("utf-8", lambda: print_table(*table), terminal=True).decode()
    assert " spack_unsigned_buildcaches " in text
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()) <= 60


def test_a_table_without_rows_is_a_sentence_where_there_is_one() -> None:
    assert written("utf-8", lambda: print_table(("Path",), [], empty="None.")) == b"None.\n"
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


def test_an_error_in_a_document_has_all_that_users_see() -> None:
    error = DownloadError("What.", details="Why.", resolution="Do.")
    told: dict[str, Any] = {"brief": "What.", "details": "Why.", "resolution": "Do."}
    assert describe(error) == {"exit_code": 4, **told}


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


def test_an_answer_that_is_not_buffered_is_reported_in_three_lines_on_a_full_disk() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "slurm_factory", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            check=False,
        )
    assert done.returncode == OutputError.exit_code
    assert len(done.stderr.splitlines()) == 3
    assert b"No space left on device" in done.stderr


HOSTILE = "a\x1b[2J\x9b1m\x7f\nb\udc9b"


def test_no_control_character_of_a_name_reaches_stdout() -> None:
    told = written(
        "utf-8",
        lambda: print_line(HOSTILE),
        lambda: print_table(("Path",), [(HOSTILE,)]),
        lambda: print_document({"path": HOSTILE}),
        terminal=True,
    )
    for control in (b"\x1b[2J", b"\x9b", b"\x7f"):
        assert control not in told
    assert told.count(rb"a\x1b[2J\x9b1m\x7f") == 2
    assert rb"\x7f\nb\udc9b" in told, "a name of two lines is not two rows"
    written_out = written("utf-8", lambda: print_document({"path": HOSTILE}))
    assert json.loads(written_out)["path"] == HOSTILE


def test_a_table_begins_with_its_head() -> None:
    table = (("Path", "Size"), [("a", "1 B")])
    assert written("utf-8", lambda: print_table(*table)).decode().splitlines() == [
        " Path   Size",
        "─────────────",
        " a      1 B",
    ]


LONG = "/home/somebody/.slurm-factory/builds/25.05/slurm-25.05-gpu-with-hdf5-debian-12-system"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 300])
def test_a_path_in_a_table_is_never_folded_nor_cut(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal folds what is longer than its lines, and still copies it as one word."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    table = (("Build", "Release", "State"), [(LONG, "25.05.8", "complete")])
    drawn = written("utf-8", lambda: print_table(*table), terminal=True).decode()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", drawn).splitlines()
    assert "…" not in "".join(lines)
    [line] = [line for line in lines if LONG in line]
    assert ("25.05.8   complete" in line) == (width >= 120)


def test_list_as_json_has_all_that_the_table_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = publish(stage(tmp_path / "staged"), tmp_path / "builds/24.11")
    path.with_name("slurm-24.11-gpu-manifest.json").write_text("{")
    answers.print_builds(find_artifacts(tmp_path / "builds"), {}, as_json=True)
    complete, broken = json.loads(capsys.readouterr().out)["builds"]
    software = path.with_name("slurm-24.11-debian-12-system-software.tar.gz")
    assert complete["state"] == "complete"
    assert complete["size"] == software.stat().st_size
    assert complete["glibc"] == "2.36"
    assert complete["created"] == "2025-05-07T12:00:00+00:00"
    assert complete["files"][0] == {
        "path": str(software),
        "name": software.name,
        "size": software.stat().st_size,
        "sha256": hashlib.sha256(software.read_bytes()).hexdigest(),
    }
    assert (broken["state"], broken["size"], broken["files"]) == ("unusable", None, [])
    assert "not a manifest" in broken["problem"]


def test_versions_as_json_names_the_newest_release_of_each_series(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers.print_versions(releases.catalog(), TODAY, as_json=True)
    rows = json.loads(capsys.readouterr().out)["series"]
    assert [row["series"] for row in rows] == list(releases.series())
    for row in rows:
        newest = releases.find_release(row["series"])
        assert (row["newest"], row["date"]) == (newest.release, newest.date)


@pytest.mark.parametrize("url", ["https://u:s3cret@h/x", "https://u:s3c/ret@h/x", "ssh://u:s3c@h"])
@pytest.mark.parametrize(
    "setting", ["ca_certificates", "cache_dir", "debian_mirror", "spack_config", "spack_url"]
)
def test_a_password_in_a_setting_is_never_printed(
    setting: str, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"SLURM_FACTORY_{setting.upper()}", url)
    plan = ("build", "--slurm-version", "24.11", "--dry-run")
    for command in (plan, (*plan, "--json"), ("list",), ("list", "--json")):
        result = CliRunner().invoke(app, command)
        assert "s3c" not in result.output
        assert "ret@" not in result.output
