"""The commands of the program with their options, as tests compare them with texts."""

from typing import cast

from typer.core import TyperGroup
from typer.main import get_command

from slurm_factory.main import app


def commands() -> dict[str, tuple[str, ...]]:
    """Names of the options of each command."""
    group = cast("TyperGroup", get_command(app))
    return {
        name: tuple(
            option
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("-")
        )
        for name, command in group.commands.items()
    }


def options_before_the_command() -> tuple[str, ...]:
    """Names of the options of the program itself."""
    group = get_command(app)
    return tuple(option for parameter in group.params for option in parameter.opts)
