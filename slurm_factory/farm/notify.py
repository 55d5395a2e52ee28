"""Tell results to a program or a server."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.farm.children import dumped
from slurm_factory.output.text import mask_credentials
from slurm_factory.util.hints import quoted
from slurm_factory.util.process import error_line, run

if TYPE_CHECKING:
    from slurm_factory.output.reporter import Reporter

SECONDS: Final = 60.0
WEB: Final = ("http://", "https://")


def check_targets(targets: Sequence[str]) -> None:
    """Refuse what is neither a URL nor the words of a command, before anything is built.

    Raises:
        ConfigurationError: One is neither.
    """
    for target in targets:
        if not target.startswith(WEB):
            _words(target)


def notify_all(targets: Sequence[str], document: Mapping[str, Any], reporter: Reporter) -> None:
    """Tell a result to all of them. What fails is a warning: the result is there all the same.

    Args:
        targets: URLs, which get it by POST, or commands, which read it from standard input.
        document: The result.
        reporter: Takes the warnings.
    """
    text = mask_credentials(dumped(document))
    for target in targets:
        tell = _post if target.startswith(WEB) else _pipe
        problem = tell(target, text)
        if problem:
            reporter.warning(f"--notify {mask_credentials(target)}: {mask_credentials(problem)}")


def _post(url: str, text: str) -> str:
    """What went wrong; empty: nothing."""
    import requests  # noqa: PLC0415  # slow to import

    headers = {"Content-Type": "application/json"}
    try:
        answer = requests.post(url, data=text.encode(), headers=headers, timeout=SECONDS)
    except requests.RequestException as error:
        return type(error).__name__
    return "" if answer.ok else f"The server answered {answer.status_code} {answer.reason}."


def _pipe(command: str, text: str) -> str:
    try:
        done = run(_words(command), seconds=SECONDS, text=text, own_session=True)
    except OSError as error:
        return f"{error.strerror or error}."
    if done.ok:
        return ""
    return f"exit code {done.status}: {error_line(done.errors.splitlines(), 'It said nothing.')}"


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        words, why = [], str(error)
    else:
        why = "It is empty."
    if not words:
        raise ConfigurationError(
            f"--notify {quoted(command)} is no command.",
            details=why,
            resolution="Write a program with its arguments, without a shell, or an http(s) URL.",
        )
    return words
