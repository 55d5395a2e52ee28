"""The log of one build: everything for people, events for programs."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

from slurm_factory.constants import JSON_VERSION
from slurm_factory.output.text import mask_credentials
from slurm_factory.util.files import file_errors


class BuildLog:
    """Writes `build.log` and `events.jsonl`, line by line.

    After both are open, write failures raise nothing, so that a full disk cannot hide the error of
    the build itself; `broken` holds the failure.

    Args:
        directory: Directory `logs/<build id>` (host); made if missing.

    Raises:
        OutputError: The directory or the files cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "build.log"
        self.broken = ""
        with file_errors(self.path):
            directory.mkdir(parents=True, exist_ok=True)
            self._lines: BinaryIO = self.path.open("ab", buffering=0)
            self._events: BinaryIO = (directory / "events.jsonl").open("ab", buffering=0)

    def write(self, text: str) -> None:
        """Add one line with the time; credentials in URLs are masked."""
        self._append(self._lines, f"{_now()} {text}")

    def event(self, kind: str, **facts: object) -> None:
        """Add one JSON object: `version`, `time`, `event` (its kind) and the facts."""
        self._append(self._events, event_line(kind, facts))

    def close(self) -> None:
        """Close both files; write nothing afterwards."""
        for file in (self._lines, self._events):
            with suppress(OSError):
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, file: BinaryIO, line: str) -> None:
        try:
            file.write(f"{mask_credentials(line)}\n".encode(errors="backslashreplace"))
        except OSError as error:
            self.broken = str(error)


def event_line(kind: str, facts: Mapping[str, object]) -> str:
    """An event as JSON: `version`, `time`, `event` (its kind) and the facts."""
    record = {"version": JSON_VERSION, "time": _now(), "event": kind, **facts}
    return json.dumps(record, default=str, ensure_ascii=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
