"""Values of users in errors, and suggestions of similar known words."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

SHORTEST_PART = 3
LONGEST_WORD = 100
SIMILARITY = 0.76
"""Above the similarity of `ipmi` and `pmix`, which share three of four letters."""


class _Quoting(reprlib.Repr):
    """A short line for a value of any size and depth, without passwords."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 72

    def repr_str(self, value: str, level: int) -> str:
        """The string without credentials."""
        return super().repr_str(_without_password(value), level)


def quoted(value: object) -> str:
    """`value` in quotation marks, for a message: short, printable, without a URL's password."""
    return _Quoting().repr(value)


def printable(text: str) -> str:
    """As `quoted`, without the quotation marks."""
    return quoted(text)[1:-1]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most similar to `word`, or None.

    Args:
        word: The user's word.
        known: Accepted words, in lower case.
    """
    asked, names = word[:LONGEST_WORD].lower(), list(known)
    close = difflib.get_close_matches(asked, names, n=1, cutoff=SIMILARITY)
    parts = [name for name in names if _is_part(name, asked) or _is_part(asked, name)]
    close = close or difflib.get_close_matches(asked, parts, n=1, cutoff=0)
    return close[0] if close else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A sentence with the known word nearest to `word`, or `otherwise` if there is none."""
    near = nearest(word, known)
    return f"Did you mean {near}?" if near else otherwise


def _is_part(part: str, whole: str) -> bool:
    return len(part) >= SHORTEST_PART and part in whole


def _without_password(text: str) -> str:
    """Up to the last @: a password may contain characters that end it in a valid URL."""
    end, scheme = text.rfind("@"), text.find("://")
    if end < 0:
        return text
    start = scheme + 3 if scheme >= 0 else 0
    return f"{text[:start]}***{text[end:]}" if ":" in text[start:end] else text
