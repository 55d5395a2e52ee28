"""Progress of a compilation by make: the current file, and its number."""

from __future__ import annotations

import os.path
import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.recipes.compiler_errors import compiler_error

if TYPE_CHECKING:
    from slurm_factory.output.records import SourceError
    from slurm_factory.output.reporter import Reporter

TOTAL = re.compile(r"Files to compile: (\d{1,6})")
"""The first output line of make-slurm.sh."""
DIRECTORY = re.compile(r"make(?:\[\d+\])?: Entering directory '(.+)'")
COMPILATION = re.compile(r"(?!libtool: ).* -c -o \S+ .*?([^\s`]+)")
"""Automake's line for one object. Libtool's line below it is ignored."""


class CompileProgress:
    """Handles each output line of make: all go to the log, progress to a live screen.

    Args:
        reporter: Takes lines, progress and the first error.
        source: Directory (instance) to which file names are relative.

    Attributes:
        error: The first error of the compiler.
    """

    def __init__(self, reporter: Reporter, source: PurePosixPath) -> None:
        self._reporter = reporter
        self._source = source
        self._directory = str(source)
        self._total = 0
        self._begun = 0
        self._text = ""
        self.error: SourceError | None = None

    def __call__(self, line: str) -> None:
        """Handle a line."""
        self._reporter.line(line)
        if found := TOTAL.fullmatch(line):
            self._total = int(found[1])
        elif found := DIRECTORY.fullmatch(line):
            self._directory = found[1]
        elif found := COMPILATION.fullmatch(line):
            self._begun += 1
            # make -n counts no file twice; an additional file must not look like an error.
            self._total = max(self._total, self._begun)
            self._text = f"{self._begun} of {self._total} files: {self._name(found[1])}"
        elif self.error is None and (error := compiler_error(line, self._directory)):
            self.error = replace(error, file=self._name(error.file))
            self._reporter.source_error(self.error)
        if self._text:
            self._reporter.passing(self._text)

    def _name(self, file: str) -> str:
        path = PurePosixPath(os.path.normpath(PurePosixPath(self._directory, file)))
        return str(path.relative_to(self._source) if path.is_relative_to(self._source) else path)
