"""Output for GitHub Actions beside the log: the job summary and the outputs of the step.

Environment variables name the files; docs.github.com, "Workflow commands for GitHub Actions",
describes their format. Writes nothing outside a workflow.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from slurm_factory.exceptions import OutputError

SUMMARY = "GITHUB_STEP_SUMMARY"
OUTPUT = "GITHUB_OUTPUT"
_ENTITIES = {ord(character): f"&#{ord(character)};" for character in "&<>|`*_~[]\\"}


def add_summary(markdown: str) -> None:
    """Append a section to the job summary.

    Raises:
        OutputError: It cannot be written.
    """
    _append(SUMMARY, f"\n{markdown.strip()}\n\n")


def set_outputs(values: Mapping[str, str]) -> None:
    """Set outputs of the step by name.

    Raises:
        OutputError: They cannot be written.
    """
    _append(OUTPUT, "".join(_assignment(name, value) for name, value in values.items()))


def plain(text: str) -> str:
    """`text` escaped as one line of Markdown, for a table cell."""
    return text.translate(_ENTITIES).replace("\r", " ").replace("\n", " ")


def _assignment(name: str, value: str) -> str:
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    end = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if not path:
        return
    try:
        with Path(path).open("ab") as file:
            file.write(text.encode(errors="surrogateescape"))
    except OSError as error:
        raise OutputError(
            f"{variable} cannot be written: {path}.",
            details=f"{error.strerror or error}.",
            resolution=f"The build itself is finished; free space there, or unset {variable}.",
        ) from error
