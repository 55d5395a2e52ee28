"""Files that are there whole or not at all, whoever else writes them at the same time."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def appearing(destination: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when the block ends well, and vanishes when it does not.

    Until then it lies beside `destination` under a name that no other process has. Of several
    that are written at the same time, the last one stays.

    Args:
        destination: File to write or replace (host); its directory has to be there.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        temporary.replace(destination)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
