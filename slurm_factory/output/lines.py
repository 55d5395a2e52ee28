"""What programs write, as clean lines of text."""

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
_CREDENTIALS = re.compile(
    r"(\b(?:https?|ftp|socks[45]?[ah]?)://|proxy(?:_https?)?=['\"]?)[^/?#\s'\"<>]*@", re.IGNORECASE
)
"""In URLs, and in proxies that are given without a scheme."""
_COMMAND = re.compile(
    rf"(?<![\w./-])(?<!--project ){APPLICATION}"
    r"(?= (?:build|clean|doctor|list|prefetch|setup|versions)\b| --?[a-z])"
)
"""The name of the program where a command line of it begins, and not in prose."""


def clean(text: str) -> str:
    """One line as a terminal would leave it: what a carriage return overwrote, escape sequences
    and other control characters are gone, tabs are spaces."""
    shown = text.rstrip("\r\n").rpartition("\r")[2]
    return _CONTROL.sub("", _ESCAPE_SEQUENCE.sub("", shown).expandtabs()).rstrip()


def mask_credentials(text: str) -> str:
    """`text` with the user and password of every URL replaced by asterisks."""
    return _CREDENTIALS.sub(r"\1***@", text) if "@" in text else text


def as_called(text: str) -> str:
    """`text` with this program's command lines as this shell understands them: after `make build`
    the program is in a virtual environment that is not in PATH."""
    return _COMMAND.sub(lambda _: _program(), text) if APPLICATION in text else text


def _program() -> str:
    called = Path(sys.argv[0])
    if shutil.which(APPLICATION):
        return APPLICATION
    if called.match("slurm_factory/__main__.py"):
        return f"{shlex.quote(sys.executable)} -m slurm_factory"
    return shlex.quote(str(called)) if called.name == APPLICATION else APPLICATION
