"""Standard output as terminals, files and other programs take it: lines, tables, documents."""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from slurm_factory import __version__
from slurm_factory.constants import JSON_VERSION
from slurm_factory.exceptions import OutputError
from slurm_factory.output.stream import discard
from slurm_factory.output.text import mask_credentials, shown

if TYPE_CHECKING:
    from slurm_factory.exceptions import SlurmFactoryError

PIPED_WIDTH = 100_000
SHORT = 20
"""Columns, in characters, that are not folded as long as there is room for the others."""
GAP = 3
"""Between two columns of a table."""
READER_GONE = 141
"""Exit code of a program that SIGPIPE has ended, as shells tell it (POSIX, 2.8.2): what ls and git
leave in the same place, and no failure of the work."""

Cell = str | tuple[str, ...]
"""What a table has in one place: a line, or lines one below the other."""


class ReaderGoneError(Exception):
    """Nobody reads stdout any longer; there is nothing to tell, and nobody to tell it to."""


def print_line(text: str, end: str = "\n") -> None:
    """Print a line at once, without credentials and without what a terminal would act on.

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
    _write(f"{shown(text)}{end}")


def print_version() -> None:
    """Print the version of this program; raises as `print_line` does."""
    print_line(__version__)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    right: Sequence[str] = (),
    empty: str = "",
) -> None:
    """Print a table. What is too long for a terminal is folded, never cut; piped, nothing is.

    Args:
        columns: What stands above each.
        rows: A cell for each column.
        right: Those of the columns that are aligned to the right, such as sizes.
        empty: What to print where there are no rows; else the head is printed alone.

    Raises:
        OutputError: It cannot be written.
        ReaderGoneError: Nobody reads it any longer.
    """
    if empty and not rows:
        print_line(empty)
        return
    cells = [[_cell_text(cell) for cell in row] for row in rows]
    terminal = on_terminal()
    # Paths are no markup.
    console = Console(
        width=None if terminal else PIPED_WIDTH,
        force_terminal=terminal,
        markup=False,
        emoji=False,
        highlight=False,
    )
    widths = [
        max(cell_len(line) for cell in column for line in cell.split("\n"))
        for column in zip(columns, *cells, strict=True)
    ]
    short = [width for width in widths if width <= SHORT]
    gaps = GAP * len(widths)
    fits = console.width >= sum(short) + SHORT * (len(widths) - len(short)) + gaps
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for head, width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if head in right else "left"
        whole = fits and width <= SHORT
        table.add_column(head, justify=justify, overflow="fold", no_wrap=whole)
    for row in cells:
        table.add_row(*row)
    with console.capture() as drawn:
        console.print(table)
    lines = drawn.get().splitlines()
    _write("".join(f"{line if terminal else line.rstrip()}\n" for line in lines))


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def terminal_width() -> int:
    """Columns of the terminal that stdout is; where it is none, more than any line has."""
    return Console().width if on_terminal() else PIPED_WIDTH


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
    # JSON has an escape for every other control character.
    text = json.dumps(_masked(plain), indent=2).replace("\x7f", "\\u007f")
    _write(f"{text}\n")


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


def _write(text: str) -> None:
    """Write to stdout, so that it has arrived or has failed when this returns."""
    stdout = sys.stdout
    if stdout is None:  # It was closed before the program began.
        return
    with writing():
        if isinstance(stdout, io.TextIOWrapper):
            encoding = codecs.lookup(stdout.encoding or "utf-8").name
            unicode = encoding in {"ascii", "utf-8"}
            stdout.reconfigure(
                encoding="utf-8" if unicode else encoding,
                errors="surrogateescape" if unicode else "replace",
            )
        stdout.write(text)
        stdout.flush()


def _cell_text(cell: Cell) -> str:
    lines = (cell,) if isinstance(cell, str) else cell
    return "\n".join(shown(line).replace("\n", "\\n").replace("\t", " ") for line in lines)


@contextmanager
def writing() -> Iterator[None]:
    """Tell what writing to stdout may fail with as our errors.

    Raises:
        OutputError: It cannot be written.
        ReaderGoneError: Nobody reads it any longer.
    """
    try:
        yield
    except OSError as error:
        # What is still in the buffer would end the program with a complaint of Python.
        discard(1)
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from error
        raise OutputError(
            "The answer could not be written to standard output.",
            details=f"{error.strerror or error}.",
            resolution="The work itself is done; free space where the output goes, then ask again.",
        ) from error


def _masked(value: Any) -> Any:
    """A JSON value with the credentials of all URLs in it masked."""
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask_credentials(value) if isinstance(value, str) else value
