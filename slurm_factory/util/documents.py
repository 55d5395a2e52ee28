"""Read files (host) that may contain anything, because somebody may have damaged them."""

from __future__ import annotations

import errno
import os
import stat
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

LARGEST = 1 << 30
"""In bytes; the index of a large build cache has some hundred MB."""


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file (host) for reading.

    Opening anything else, such as a pipe, could block forever.

    Args:
        path: The file.
        follow: Whether the path may be a symbolic link.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_text(path: Path) -> str:
    """Text of a regular file (host).

    Raises:
        OSError: It cannot be read, is not a regular file, or is larger than `LARGEST`.
        ValueError: It is not UTF-8.
    """
    return read_bytes(path).decode("utf-8")


def read_bytes(path: Path) -> bytes:
    """Content of a regular file (host); raises OSError as `read_text` does."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read()


def read_limited(path: Path, limit: int) -> bytes:
    """Content of a regular file (host) that strangers may have written; follows no link.

    Args:
        path: The file.
        limit: Largest size in bytes.

    Raises:
        OSError: It cannot be read, is a link or not a regular file, or is larger.
    """
    with open_regular(path, follow=False) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def read_json(path: Path) -> Any:
    """The JSON document in a regular file (host).

    Raises:
        OSError: As `read_text` does.
        ValueError: It is not JSON, or is nested too deeply.
    """
    return parse_json(read_bytes(path))


def parse_json(text: str | bytes) -> Any:
    """A JSON document.

    Uses pydantic's reader, whose limit on nesting makes documents safe to walk and write; Python's
    own accepts more than its writer can handle, or ends with RecursionError.

    Raises:
        ValueError: It is not JSON, or is nested too deeply.
    """
    try:
        return _anything().validate_json(text)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from error


@cache
def _anything() -> TypeAdapter[Any]:
    return TypeAdapter(Any)
