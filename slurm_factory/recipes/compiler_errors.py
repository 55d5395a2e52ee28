"""The places in sources that compilers complain about."""

import os.path
import re
from pathlib import PurePosixPath

from slurm_factory.output.records import SourceError
from slurm_factory.output.text import clean

COMPILER_ERROR = re.compile(
    r"(?P<file>[^\s:][^:]*):(?P<line>\d{1,9}):(?:(?P<column>\d{1,9}):)?"
    r" (?:fatal )?error: (?P<text>.+)"
)
"""What gcc and clang print. A name without a line is that of a linker, or of gcc itself."""


def compiler_error(line: str, directory: str = "") -> SourceError | None:
    """The error in a line of output, if it is one of a compiler.

    Args:
        line: What was printed.
        directory: Directory (instance) to which file names in it are relative.
    """
    found = COMPILER_ERROR.fullmatch(clean(line))
    if found is None:
        return None
    file = os.path.normpath(PurePosixPath(directory, found["file"]))
    return SourceError(file, int(found["line"]), int(found["column"] or 0), found["text"])
