"""What `--help` says: groups of options, and examples that work."""

import re
import shlex
from collections.abc import Callable
from functools import wraps

import pytest
from click_tree import commands
from typer.testing import CliRunner

from slurm_factory import resources
from slurm_factory.constants import APPLICATION
from slurm_factory.main import app
from slurm_factory.usage import GENERAL, examples

COMMANDS = sorted(commands())
EXAMPLES = [run for command in COMMANDS for _, run in examples(command)]


def help_of(*command: str, columns: int = 80) -> str:
    result = CliRunner().invoke(app, [*command, "--help"], terminal_width=columns)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The exit code for a command line of which nothing is done."""
    for command in app.registered_commands:
        assert command.callback
        monkeypatch.setattr(command, "callback", wraps(command.callback)(lambda **_: None))
    return lambda line: CliRunner().invoke(app, shlex.split(line)[1:]).exit_code


def test_every_command_has_examples_and_no_example_is_of_none() -> None:
    assert resources.load_toml("examples.toml").keys() == set(COMMANDS)


@pytest.mark.parametrize("line", EXAMPLES)
def test_example_is_understood(line: str, parse: Callable[[str], int]) -> None:
    assert line.startswith(f"{APPLICATION} ")
    assert parse(line) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_examples_whole_and_in_80_columns(command: str) -> None:
    text = help_of(command)
    for does, run in examples(command):
        assert f"  # {does}\n  {run}\n" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_one_group_and_what_all_commands_have_comes_last(command: str) -> None:
    text = help_of(command).partition("Examples:")[0]
    groups = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert groups[-1] == GENERAL
    assert len(groups) == len(set(groups))
    general = text.partition(f"{GENERAL}:")[2]
    assert re.findall(r"--[a-z]+", general) == ["--json", "--verbose", "--quiet", "--help"]
    for option in commands()[command]:
        assert len(re.findall(rf"(?<![\w-]){option}(?=[ ,\n])", text)) >= 1, option


def test_options_of_build_are_grouped() -> None:
    groups = re.findall(r"^(\S.*):$", help_of("build"), re.MULTILINE)
    assert groups == ["Content", "Source", "Platform", "Building", "Where", GENERAL, "Examples"]


def test_what_commands_do_is_folded_and_not_cut() -> None:
    text = help_of(columns=60)
    assert "..." not in text.partition("Commands:")[2]
    assert max(len(line) for line in text.splitlines()) <= 60


def test_examples_can_be_pasted_where_the_program_is_not_in_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.argv", [".venv/bin/slurm-factory"])
    assert "\n  .venv/bin/slurm-factory doctor\n" in help_of("doctor")
