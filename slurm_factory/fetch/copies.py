"""Documents of a site or of the network, with a copy in the cache for days without one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slurm_factory.exceptions import DownloadError
from slurm_factory.fetch.http import TransferError, new_session, open_url, with_retries
from slurm_factory.plan.base_setup import directory_of, without_credentials
from slurm_factory.util.files import atomic_write, file_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter


def document_at(
    place: str,
    what: str,
    settings: Settings,
    reporter: Reporter,
    *,
    largest: int,
    check: Callable[[bytes], object],
    offline: bool = False,
) -> Path:
    """A document as a file (host): that of the path, or a copy of what the URL serves.

    Args:
        place: A path, or a URL.
        what: Its name in messages, as `the catalog`.
        settings: Settings of this site.
        reporter: Gets a warning if only an earlier copy can be had.
        largest: Limit of what is fetched, in bytes.
        check: Raises ValueError for what cannot be used; then the copy stays.
        offline: Fetch nothing.

    Raises:
        DownloadError: It cannot be fetched, and there is no copy.
        OutputError: The copy cannot be written.
    """
    if urlsplit(place).scheme not in {"http", "https"}:
        return directory_of(place) or Path(place)
    shown = without_credentials(place)
    digest = hashlib.sha256(place.encode()).hexdigest()[:16]
    copy = settings.copies_dir / f"{digest}.json"
    if not offline:
        try:
            _copy(place, copy, settings.download_timeout, largest, check)
        except TransferError as error:
            if not copy.exists():
                raise DownloadError(
                    f"{what[:1].upper()}{what[1:]} {shown} could not be fetched.",
                    details=f"{error}.",
                    resolution="Run the command where there is a network, or name a file instead.",
                ) from error
            reporter.warning(f"{shown}: {error}; using the copy of before.")
    if not copy.exists():
        raise DownloadError(
            f"--offline: there is no copy of {what} {shown}.",
            details=f"It would be {copy}.",
            resolution="Run the command without --offline before.",
        )
    return copy


def _copy(
    url: str, target: Path, timeout: float, largest: int, check: Callable[[bytes], object]
) -> None:
    content = with_retries(lambda: _read(url, timeout, largest))
    try:
        check(content)
    except (ValueError, KeyError, TypeError) as error:
        raise TransferError("what it serves cannot be used") from error
    with file_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            file.write(content)


def _read(url: str, timeout: float, largest: int) -> bytes:
    parts, received = [], 0
    with open_url(new_session(), url, 0, timeout) as body:
        for chunk in body.chunks:
            received += len(chunk)
            if received > largest:
                raise TransferError(f"it has more than {largest >> 20} MiB")
            parts.append(chunk)
    return b"".join(parts)
