"""The user's own patches, read before anything begins."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.plan import SitePatch
from slurm_factory.util.files import file_errors
from slurm_factory.util.hints import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SERIES = "series"
LARGEST = 4 << 20
"""Of a patch in bytes; all of Debian's for one release have a tenth of it."""
LONGEST = 100
"""Of a name: a number comes before it."""
HARMLESS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")


def read_site_patches(paths: Sequence[Path]) -> tuple[SitePatch, ...]:
    """The user's patches, in order.

    Args:
        paths: Files, or directories with a quilt series (quilt(1)): a file `series` that lists the
            patches.

    Raises:
        ConfigurationError: One of them is not there, is not a patch, or is not for `patch -p1`.
        OutputError: It cannot be read.
    """
    try:
        files = [file for path in paths for file in (_series(path) if path.is_dir() else [path])]
        return tuple(_read(file) for file in files)
    except OSError as error:  # Of a name that is too long, for instance.
        raise ConfigurationError(
            f"The patch {quoted(str(error.filename))} cannot be used.",
            details=f"{error.strerror}.",
            resolution="Correct --patch, or the series that names it.",
        ) from error


def _series(directory: Path) -> list[Path]:
    listed = directory / SERIES
    if not listed.is_file():
        raise ConfigurationError(
            f"--patch {quoted(str(directory))} is a directory without a series.",
            details=f"A file {SERIES}, as quilt(1) writes it, lists the patches in order.",
            resolution=f"Write {SERIES}, or name each patch with a --patch of its own.",
        )
    with file_errors(listed, "read"):
        lines = listed.read_text("utf-8", errors="replace").splitlines()
    rows = [line.partition(" #")[0].split() for line in lines if not line.startswith("#")]
    for row in filter(None, rows):
        if row[1:] not in ([], ["-p1"]):
            raise ConfigurationError(
                f"{printable(row[0])} in {listed} has options: {printable(' '.join(row[1:]))}.",
                details="Patches are applied with -p1, and without fuzz.",
                resolution="Write the patch for -p1: quilt refresh -p1",
            )
    return [directory / row[0] for row in rows if row]


def _read(path: Path) -> SitePatch:
    if not path.is_file():
        raise ConfigurationError(
            f"There is no patch {quoted(str(path))}.",
            details="It is no file." if path.exists() else "It does not exist.",
            resolution="Correct --patch, or the series that names it.",
        )
    if not set(path.name) <= HARMLESS or path.name.startswith("-") or len(path.name) > LONGEST:
        raise ConfigurationError(
            f"The name of the patch {quoted(str(path))} cannot be used.",
            details="It becomes a file name in the instance and in Spack's repository.",
            resolution=f"Rename it: letters, digits, and . _ + - only, at most {LONGEST} of them.",
        )
    with file_errors(path, "read"), path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST or not _is_patch(content):
        raise ConfigurationError(
            f"{quoted(str(path))} is not a patch.",
            details="It has more than 4 MiB."
            if len(content) > LARGEST
            else "No line of it begins with --- and the next with +++.",
            resolution="Write it with diff -u or git diff.",
        )
    return SitePatch(path.absolute(), content)


def _is_patch(content: bytes) -> bool:
    lines = content.splitlines()
    return any(old.startswith(b"--- ") and new.startswith(b"+++ ") for old, new in pairwise(lines))
