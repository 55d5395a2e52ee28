"""Output of programs as clean lines of text."""

import re
import shlex
import shutil
import sys
from pathlib import Path

from slurm_factory.constants import APPLICATION

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
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\udc80-\udc9f]")
"""Control characters (C0 and C1 of ECMA-48, also as bytes of a file name that is not UTF-8), and
Unicode's bidirectional controls. Tabs and line ends are not included."""
_SCHEME = r"\b(?:https?|ftp|socks[45]?[ah]?):/+|proxy(?:_https?)?=['\"]?"
_OTHER_SCHEME = r"\b[a-z][a-z0-9+.-]{0,20}:/{1,2}(?!/)"
_NO_PORT = r"(?!\d{0,5}(?:[/?#'\"<>,\s]|$))"
_PASSWORD = rf"[^/?#\s'\"<>:@\[]{{0,1024}}:{_NO_PORT}\S{{0,1024}}?"
_END = r"@(?![^/?#\s'\"@]*@)(?:[/?#]\S{0,1024}@)?"
_CREDENTIALS = re.compile(
    rf"({_SCHEME})(?:[^/?#\s'\"<>]{{0,4096}}|{_PASSWORD}){_END}|({_OTHER_SCHEME}){_PASSWORD}{_END}",
    re.IGNORECASE,
)
"""In URLs, also in those that lost a slash as a path, and in proxies without a scheme.

A password may contain unescaped characters: text after a colon that is not a port belongs to it, up
to the @. In other schemes, a user alone is not a secret (ssh://git@host).
"""
_COMMAND = re.compile(
    rf"(?<![\w./-])(?<!--project ){APPLICATION}"
    r"(?= (?:build|clean|deploy|doctor|fetch|list|matrix|prefetch|publish|reproduce|settings|setup"
    r"|show|verify|versions)\b"
    r"| --?[a-z])"
)
"""The name of the program at the beginning of a command line, not in prose."""


def clean(text: str) -> str:
    """One line as a terminal would show it: without overwritten text, escape sequences and other
    control characters, and with spaces for tabs."""
    shown = text.rstrip("\r\n").rpartition("\r")[2]
    return _CONTROL.sub("", _ESCAPE_SEQUENCE.sub("", shown).expandtabs()).rstrip()


def visible(text: str) -> str:
    r"""`text` with escapes such as `\x1b` for control characters.

    Tabs and line ends stay as they are.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def mask_credentials(text: str) -> str:
    """`text` with the user and password of every URL replaced by asterisks."""
    return _CREDENTIALS.sub(lambda m: f"{m[1] or m[2]}***@", text) if "@" in text else text


def shown(text: str) -> str:
    """`text` for display: without credentials and control characters."""
    return mask_credentials(visible(text))


def as_called(text: str) -> str:
    """`text` with command lines of this program that work in this shell: after `make build`, the
    program is in a virtual environment outside PATH."""
    return _COMMAND.sub(lambda _: _program(), text) if APPLICATION in text else text


def _program() -> str:
    called = Path(sys.argv[0])
    if shutil.which(APPLICATION):
        return APPLICATION
    if called.match("slurm_factory/__main__.py"):
        return f"{shlex.quote(sys.executable)} -m slurm_factory"
    return shlex.quote(str(called)) if called.name == APPLICATION else APPLICATION
