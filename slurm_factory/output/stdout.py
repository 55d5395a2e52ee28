"""Standard output for terminals, files and other programs: lines, tables, documents."""

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
"""Widths in characters up to which columns are not folded if the others fit."""
GAP = 3
"""Between two columns of a table."""
READER_GONE = 141
"""Exit code of a program that SIGPIPE has ended, as in shells (POSIX, 2.8.2); ls and git also
end with it. The work itself has not failed."""

Cell = str | tuple[str, ...]
"""A table cell: a line, or several lines."""


class ReaderGoneError(Exception):
    """The reader of stdout has gone; there is nothing more to report."""


def print_line(text: str, end: str = "\n") -> None:
    """Print a line at once, without credentials and control characters.

    Writes UTF-8 even if stdout claims ASCII: usually the locale is missing, and paths must be
    complete. With other encodings, a question mark replaces missing letters; file names that are
    not text keep their bytes.

    Args:
        text: One or more lines.
        end: Text after it.

    Raises:
        OutputError: It cannot be written, for example because a disk is full.
        ReaderGoneError: The reader has gone (`head -1`).
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
    """Print a table. On a terminal, long cells are folded, never cut; in a pipe, nothing is folded.

    Where a terminal is too narrow for columns, each row is a paragraph.

    Args:
        columns: Headings.
        rows: A cell for each column.
        right: Right-aligned columns, such as sizes.
        empty: Text to print if there are no rows; without it, only the head is printed.

    Raises:
        OutputError: It cannot be written.
        ReaderGoneError: The reader has gone.
    """
    if empty and not rows:
        print_line(empty)
        return
    cells = [[_cell_text(cell) for cell in row] for row in rows]
    terminal = on_terminal()
    # Paths are not markup.
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
    names_fit = widths[0] <= console.width // 2
    if terminal and console.width < sum(widths) + gaps and not (fits and names_fit):
        _print_paragraphs(columns, cells)
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for number, (head, width) in enumerate(zip(columns, widths, strict=True)):
        justify: Literal["left", "right"] = "right" if head in right else "left"
        whole = number == 0 or width <= SHORT
        table.add_column(head, justify=justify, overflow="fold", no_wrap=whole)
    for row in cells:
        table.add_row(*row)
    with console.capture() as drawn:
        console.print(table)
    lines = drawn.get().splitlines()
    _write("".join(f"{line if terminal else line.rstrip()}\n" for line in lines))


def _print_paragraphs(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """The rows of a table, a line for each cell that is not empty."""
    widest = max(map(cell_len, columns))
    for row in cells:
        for head, cell in zip(columns, row, strict=True):
            if cell:
                folded = cell.replace("\n", f"\n {'':{widest}}  ")
                _write(f" {head:{widest}}  {folded}\n")
        _write("\n")


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def terminal_width() -> int:
    """Width of the terminal at stdout; if there is none, more than any line needs."""
    return Console().width if on_terminal() else PIPED_WIDTH


def file_size(size: int) -> str:
    """Bytes in readable units, such as 15.8 MB."""
    return decimal(size)


def print_document(document: dict[str, Any]) -> None:
    """Print a JSON document with its version first and the credentials of all URLs masked.

    Args:
        document: Values without a JSON type are converted with `str`.

    Raises:
        OutputError: It cannot be written.
        ReaderGoneError: The reader has gone.
    """
    plain = json.loads(json.dumps({"version": JSON_VERSION, **document}, default=str))
    # JSON has an escape for every other control character.
    text = json.dumps(_masked(plain), indent=2).replace("\x7f", "\\u007f")
    _write(f"{text}\n")


def print_error(error: SlurmFactoryError) -> None:
    """Print the document of a failed command; raises as `print_document` does."""
    print_document({"error": {"kind": type(error).__name__, **describe(error)}})


def describe(error: SlurmFactoryError) -> dict[str, Any]:
    """An error as part of a document."""
    return {
        "exit_code": error.exit_code,
        "brief": error.brief,
        "details": error.details,
        "resolution": error.resolution,
        **({"elsewhere": True} if error.elsewhere else {}),
    }


def _write(text: str) -> None:
    """Write to stdout and flush, so that a failure shows at once."""
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
        ReaderGoneError: The reader has gone.
    """
    try:
        yield
    except OSError as error:
        # Python would report text in the buffer as an error when the program ends.
        discard(1)
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from error
        raise OutputError(
            "Cannot write the result to standard output.",
            details=f"{error.strerror or error}.",
            resolution="The work itself is finished; free space at the destination of the output,"
            " then run the command again.",
        ) from error


def _masked(value: Any) -> Any:
    """A JSON value with the credentials of all URLs in it masked."""
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask_credentials(value) if isinstance(value, str) else value
