"""A screen that may go away, or was never there."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast


def safe(stream: TextIO) -> TextIO:
    """`stream`, but writing to it never raises."""
    return cast("TextIO", _SafeStream(stream))


def fill_closed_streams() -> None:
    """Let the null device stand for each standard stream that was closed before the start.

    Else the next file that is opened gets its descriptor, and with it all that this program and
    those that it starts print there.
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
    """A text stream that swallows what nobody reads any more.

    A closed pipe, a terminal that has hung up or a full disk behind a redirection must not end a
    build.
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
