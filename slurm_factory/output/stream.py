"""A screen that may disappear or be missing."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast


def safe(stream: TextIO) -> TextIO:
    """`stream`, but with writes that never raise."""
    return cast("TextIO", _SafeStream(stream))


def fill_closed_streams() -> None:
    """Replace standard streams that were closed before the start with the null device.

    Otherwise the next opened file gets the descriptor, and with it the output of this program and
    its children.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def discard(descriptor: int) -> None:
    """Let the null device take what is still written to a descriptor.

    Else the interpreter would report a failure once more, by its exit status, when it ends.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


class _SafeStream(io.TextIOBase):
    """A text stream that discards its output after the first failure.

    A closed pipe, a closed terminal or a full disk behind a redirection must not end a build.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._gone = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"

    def isatty(self) -> bool:
        return not self._gone and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        printable = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        if not self._gone:
            try:
                self._stream.write(printable)
            except (OSError, ValueError):
                self._give_up()
        return len(text)

    def flush(self) -> None:
        if not self._gone:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._give_up()

    def _give_up(self) -> None:
        self._gone = True
        with suppress(OSError, ValueError):
            discard(self._stream.fileno())
