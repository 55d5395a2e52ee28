"""The text of `--help`: options in groups, and examples.

Without rich, whose import takes as long as all of `--help` may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer import Typer
from typer.core import TyperCommand, TyperGroup

from slurm_factory.output.text import as_called
from slurm_factory.resources import load_toml

GENERAL = "General"
"""Group of the options that every command has."""


def examples(command: str) -> list[tuple[str, str]]:
    """What each example of a command does, and its command line."""
    return [(row["does"], row["run"]) for row in load_toml("examples.toml").get(command, ())]


class Command(TyperCommand):
    """A command whose help has groups of options, and examples."""

    def groups(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """The options with their meanings, by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            is_option = parameter.param_type_name == "option"
            default = GENERAL if parameter.name == "help" else "Options"
            group = getattr(parameter, "rich_help_panel", None) or default
            if record := parameter.get_help_record(ctx):
                groups.setdefault(group if is_option else "Arguments", []).append(record)
        return groups

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the groups."""
        for group, records in self.groups(ctx).items():
            with formatter.section(group):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, whose lines stay whole to be copied."""
        known = examples(self.name or "")
        if known:
            with formatter.section("Examples"):
                lines = [f"  # {does}\n  {as_called(run)}\n" for does, run in known]
                formatter.write("\n".join(lines))
        super().format_epilog(ctx, formatter)


class Commands(TyperGroup):
    """All commands; what they do is folded, not cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, (command.help or "").partition("\n")[0])
            for name, command in commands
            if command and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Application(Typer):
    """The program, all commands of which are ours."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """As Typer's decorator."""
        return super().command(name, **{"cls": Command, **settings})
