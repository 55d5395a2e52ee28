"""What programs write, as clean lines of text."""

import codecs
import re
from collections.abc import Iterator
from typing import Final

LONGEST_LINE: Final = 1 << 16
"""Characters after which a line without an end is cut."""

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|[PX^_][^\x1b]*(?:\x1b\\)?"
    r"|[ -/]*[0-~]"
    r")"
)
"""CSI, OSC, device control and two-character sequences of ECMA-48."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CREDENTIALS = re.compile(r"\b((?:https?|ftp|socks[45]?[ah]?)://)[^/?#\s'\"<>]*@", re.IGNORECASE)


def clean(text: str) -> str:
    """One line as a terminal would leave it: what a carriage return overwrote, escape sequences
    and other control characters are gone, tabs are spaces."""
    shown = text.rstrip("\r\n").rpartition("\r")[2]
    return _CONTROL.sub("", _ESCAPE_SEQUENCE.sub("", shown).expandtabs()).rstrip()


def mask_credentials(text: str) -> str:
    """`text` with the user and password of every URL replaced by asterisks."""
    return _CREDENTIALS.sub(r"\1***@", text) if "@" in text else text


class LineSplitter:
    """Puts lines together from pieces as they come out of a pipe, cut anywhere."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, piece: bytes | str) -> Iterator[str]:
        """The lines that this piece completes."""
        text = piece if isinstance(piece, str) else self._decoder.decode(piece)
        *complete, rest = (self._rest + text).split("\n")
        yield from complete
        if len(rest) > LONGEST_LINE:
            yield rest
            rest = ""
        self._rest = rest

    def unfinished(self) -> str:
        """The line in the making: what a progress display shows before it ends."""
        return self._rest

    def finish(self) -> Iterator[str]:
        """The last line if it has no end."""
        yield from self.feed(self._decoder.decode(b"", final=True))
        if self._rest:
            yield self._rest
        self._rest = ""
