"""What to say when a result cannot be written."""

import shlex
from pathlib import Path

from slurm_factory.disks import FULL_ERRORS
from slurm_factory.exceptions import OutputError


def write_text(path: Path, text: str) -> Path:
    """Write a file (host), with the directories it needs, and return its path.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise not_written(path, error) from error
    return path


def not_written(path: Path, error: OSError) -> OutputError:
    """The error for a file or directory (host) that the operating system does not let us write.

    Another file that was to be read for it is named instead.
    """
    cause = _read_instead(path, error)
    shown = cause or path
    directory = shlex.quote(str(shown.parent))
    if error.errno in FULL_ERRORS:
        resolution = f"Free space there: df -h {directory}; slurm-factory clean --caches"
    else:
        resolution = f"Look at the permissions and limits there: ls -ld {directory}"
    return OutputError(
        f"{shown} could not be {'read' if cause else 'written'}.",
        details=str(error),
        resolution=resolution,
    )


def _read_instead(path: Path, error: OSError) -> Path | None:
    """The file that an error is about, where that lies elsewhere and nothing is renamed."""
    if not isinstance(error.filename, str) or error.filename2 or error.errno in FULL_ERRORS:
        return None
    named = Path(error.filename)
    beside = named.parent == path.parent or path.is_relative_to(named)
    return None if beside else named
