"""A reporter that records its calls."""

import io
from collections.abc import Callable

from slurm_factory.output.displays import QuietDisplay
from slurm_factory.output.records import SourceError
from slurm_factory.output.reporter import Reporter


class Listener(Reporter):
    """Keeps lines, errors of compilers, notes and warnings, each kind in a list.

    Args:
        on_note: Is called with each note.
    """

    def __init__(self, on_note: Callable[[str], object] = lambda _: None) -> None:
        super().__init__(QuietDisplay(io.StringIO()))
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.passed: list[str] = []
        self.source_errors: list[SourceError] = []
        self._on_note = on_note

    def line(self, text: str) -> None:
        self.lines.append(text)

    def passing(self, text: str) -> None:
        self.passed.append(text)

    def source_error(self, error: SourceError) -> None:
        self.source_errors.append(error)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._on_note(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)
