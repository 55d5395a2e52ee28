"""What a job of GitHub Actions gets beside its log: lines of its summary, outputs of its step.

The files are named by variables, whose format is that of docs.github.com, "Workflow commands for
GitHub Actions". Outside a workflow nothing is written.
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
    """Add a section to the job's summary, apart from what is there already.

    Raises:
        OutputError: It cannot be written.
    """
    _append(SUMMARY, f"\n{markdown.strip()}\n\n")


def set_outputs(values: Mapping[str, str]) -> None:
    """Set outputs of the step, by their names.

    Raises:
        OutputError: They cannot be written.
    """
    _append(OUTPUT, "".join(_assignment(name, value) for name, value in values.items()))


def plain(text: str) -> str:
    """`text` as Markdown of one line that means nothing else; fit for a cell of a table."""
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
            resolution=f"The work itself is done; free space there, or unset {variable}.",
        ) from error
