"""Standard output as terminals, files and other programs take it: lines, tables, documents."""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from slurm_factory import __version__
from slurm_factory.constants import JSON_VERSION
from slurm_factory.exceptions import OutputError
from slurm_factory.output.lines import mask_credentials

if TYPE_CHECKING:
    from slurm_factory.exceptions import SlurmFactoryError

PIPED_WIDTH = 100_000
READER_GONE = 141
"""Exit code of a program that SIGPIPE has ended, as shells tell it (POSIX, 2.8.2): what ls and git
leave in the same place, and no failure of the work."""
_STYLE = re.compile(r"\x1b\[[;?0-9]*[A-Za-z]")
"""CSI sequences of ECMA-48: colours, and what else moves about on a terminal."""


class ReaderGoneError(Exception):
    """Nobody reads stdout any longer; there is nothing to tell, and nobody to tell it to."""


def print_line(text: str, end: str = "\n") -> None:
    """Print a line at once; what styles it goes to terminals only.

    A stdout that is said to take ASCII only gets UTF-8 all the same: most often a locale is
    missing, and whoever reads a path wants all of it. A question mark stands for a letter that
    another encoding lacks; names of files that are no text stay the bytes they are.

    Args:
        text: Of one line or more.
        end: What comes after it.

    Raises:
        OutputError: It cannot be written, since a disk is full, for example.
        ReaderGoneError: Nobody reads it any longer (`head -1`).
    """
    stdout = sys.stdout
    if stdout is None:  # It was closed before the program began.
        return
    shown = f"{text if stdout.isatty() else _STYLE.sub('', text)}{end}"
    encoding = codecs.lookup(stdout.encoding or "utf-8").name
    with _writing():
        if shown.isascii() or not hasattr(stdout, "buffer"):
            stdout.write(shown)
        else:
            stdout.flush()
            stdout.buffer.write(_encoded(shown, encoding))
        stdout.flush()


def print_version() -> None:
    """Print the version of this program; raises as `print_line` does."""
    print_line(__version__)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str = "") -> None:
    """Print a table; piped, no line of it is folded.

    Args:
        columns: What stands above each.
        rows: A cell for each column.
        empty: What to print where there are no rows; else the head is printed alone.

    Raises:
        OutputError: It cannot be written.
        ReaderGoneError: Nobody reads it any longer.
    """
    if empty and not rows:
        print_line(empty)
        return
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    width = PIPED_WIDTH if sys.stdout is None or not sys.stdout.isatty() else None
    # Paths are no markup.
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with _writing(), console.capture() as drawn:
        console.print(table)
    print_line(drawn.get(), end="")


def file_size(size: int) -> str:
    """Bytes in the units that people read, such as 15.8 MB."""
    return decimal(size)


def print_document(document: dict[str, Any]) -> None:
    """Print a JSON document with its version first and the credentials of all URLs masked.

    Args:
        document: Values that JSON does not know become what `str` makes of them.

    Raises:
        OutputError: It cannot be written.
        ReaderGoneError: Nobody reads it any longer.
    """
    plain = json.loads(json.dumps({"version": JSON_VERSION, **document}, default=str))
    print_line(json.dumps(_masked(plain), indent=2))


def print_error(error: SlurmFactoryError) -> None:
    """Print the document of a command that has failed; raises as `print_document` does."""
    print_document({"error": describe(error)})


def describe(error: SlurmFactoryError) -> dict[str, Any]:
    """An error as a part of a document."""
    return {
        "exit_code": error.exit_code,
        "brief": error.brief,
        "details": error.details,
        "resolution": error.resolution,
    }


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is still in the buffer would end the program with a complaint of Python.
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 1)
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from error
        raise OutputError(
            "The answer could not be written to standard output.",
            details=f"{error.strerror or error}.",
            resolution="The work itself is done; free space where the output goes, then ask again.",
        ) from error


def _encoded(text: str, encoding: str) -> bytes:
    if encoding in {"ascii", "utf-8"}:
        return text.encode(errors="surrogateescape")
    return text.encode(encoding, errors="replace")


def _masked(value: Any) -> Any:
    """A JSON value with the credentials of all URLs in it masked."""
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask_credentials(value) if isinstance(value, str) else value
