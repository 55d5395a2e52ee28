"""Source archives, by checksum, in the layout of a Spack source mirror.

A file under its final name has the checksum in that name: a download grows in `.partial/`, outside
the mirror, and is renamed after its checksum was verified.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from filelock import FileLock

from slurm_factory.exceptions import DownloadError
from slurm_factory.fetch.http import (
    Body,
    NoSuchPartError,
    TransferError,
    TransientError,
    UnreachableError,
    new_session,
    open_url,
    with_retries,
)
from slurm_factory.util.files import file_errors

Report = Callable[[int, int | None], None]
"""Called with the bytes received so far and the bytes expected (None: unknown)."""

ARCHIVE_EXTENSIONS: Final = tuple(
    f".{name}"
    for name in (
        *("tar.gz", "tar.bz2", "tar.xz", "tar.Z", "tar", "gz", "bz2", "xz", "Z"),
        *("zip", "tgz", "tbz2", "tbz", "txz"),
    )
)
"""Spack's ALLOWED_ARCHIVE_TYPES (spack/util/url.py) but for wheels, which it stores bare."""


@dataclass(frozen=True)
class Source:
    """A file known by its checksum.

    Attributes:
        name: Name in messages, such as `Slurm 24.11.5`.
        sha256: Checksum, 64 lower-case hexadecimal digits.
        size: Length in bytes, or None if only the checksum is known.
        urls: Where to get it (`https://`, `http://`, `file://`), the preferred one first.
        extension: With a leading dot, or empty; see `archive_extension`.
    """

    name: str
    sha256: str
    size: int | None
    urls: tuple[str, ...]
    extension: str

    @property
    def stored_as(self) -> PurePosixPath:
        """Path below a Spack source mirror (Spack's `URLFetchStrategy.mirror_id` and mirror
        layout)."""
        file_name = f"{self.sha256}{self.extension}"
        return PurePosixPath("_source-cache", "archive", self.sha256[:2], file_name)


def archive_extension(url: str) -> str:
    """The extension under which Spack stores a file from `url`, regardless of its content:
    `.tar.gz`, `.tgz`…; empty for a file that is not an archive for Spack, such as a wheel."""
    path = urlsplit(url).path
    return next((ending for ending in ARCHIVE_EXTENSIONS if path.endswith(ending)), "")


def cached(source: Source, cache_dir: Path) -> Path | None:
    """Path (host) of a source in the cache, or None if it is not there or its checksum is wrong.

    Raises:
        OutputError: The cache cannot be read.
    """
    path = cache_dir / source.stored_as
    with file_errors(cache_dir, "used"):
        return path if _has_checksum(path, source) else None


def fetch(
    source: Source,
    cache_dir: Path,
    *,
    mirrors: Sequence[str] = (),
    timeout: float = 30.0,
    report: Report | None = None,
    warn: Callable[[str], None] | None = None,
) -> Path:
    """Return a source in the cache; download it if it is missing.

    Mirrors are tried before the source's own URLs, both with the file names of those URLs and with
    the path in a Spack source mirror. Proxies and CA certificates are those of the environment
    (`https_proxy`, `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`) and of the system's store. Several builds
    may fetch the same source at once: one downloads, the others wait for it.

    Args:
        source: What to fetch.
        cache_dir: Root of the source cache (host), a Spack source mirror.
        mirrors: URLs of directories to try first.
        timeout: Seconds without data after which a download is tried again.
        report: Called with the progress.
        warn: Called with one line for each damaged file in the cache and each URL that failed.

    Returns:
        Path (host) of the file, its checksum verified.

    Raises:
        DownloadError: No URL served a file with this checksum.
        OutputError: The cache cannot be written, or is full.
    """
    path = cache_dir / source.stored_as
    partial = cache_dir / ".partial" / source.sha256
    warn = warn or _ignore
    with file_errors(cache_dir, "used"):
        if _has_checksum(path, source):
            return path
        partial.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(partial.with_suffix(".lock")):
            if _has_checksum(path, source):
                return path
            if path.exists():
                warn(f"{path} is damaged; fetching it again.")
                path.unlink()
            download = _Download(source, partial.with_suffix(".part"), timeout, report or _ignore)
            _first_good(candidates(source, mirrors), download, path, warn)
            path.parent.mkdir(parents=True, exist_ok=True)
            download.part.replace(path)
            return path


class _WrongFileError(TransferError):
    """The download is a complete file, but a different one."""


class _Download:
    """Downloads one source into a partial file, which a later run continues.

    A partial file may be continued from another URL: the checksum shows in the end whether the
    parts belong together, so there is no need to keep a validator (If-Range).
    """

    def __init__(self, source: Source, part: Path, timeout: float, report: Report) -> None:
        self.source = source
        self.part = part
        self._timeout = timeout
        self._report = report
        self._session = new_session()

    def run(self, url: str) -> None:
        """Fetch from one URL, again after a pause if that may help.

        Raises:
            TransferError: `part` could not be completed from there.
        """
        with_retries(lambda: self._attempt(url))

    def _attempt(self, url: str) -> None:
        offset = self.part.stat().st_size if self.part.exists() else 0
        try:
            with open_url(self._session, url, offset, self._timeout) as body:
                self._refuse_other_length(body.total)
                self._receive(body)
        except NoSuchPartError:
            self.part.unlink(missing_ok=True)
            raise
        self._check(resumed=body.start > 0)

    def _receive(self, body: Body) -> None:
        received = body.start
        with self.part.open("ab" if body.start else "wb") as file:
            for chunk in body.chunks:
                received += len(chunk)
                self._refuse_more_than_expected(received)
                file.write(chunk)
                self._report(received, self.source.size or body.total)

    def _refuse_other_length(self, total: int | None) -> None:
        if total is not None and self.source.size not in {None, total}:
            raise _WrongFileError(f"the file there has {total} bytes instead of {self.source.size}")

    def _refuse_more_than_expected(self, received: int) -> None:
        if self.source.size is not None and received > self.source.size:
            self.part.unlink()
            raise _WrongFileError(f"the file there has more than {self.source.size} bytes")

    def _check(self, *, resumed: bool) -> None:
        size = self.part.stat().st_size
        if self.source.size is not None and size < self.source.size:
            raise TransientError(f"ended after {size} of {self.source.size} bytes")
        digest = _sha256(self.part)
        if digest == self.source.sha256:
            return
        self.part.unlink()
        if resumed:
            raise TransientError("the partial file belonged to another file")
        raise _WrongFileError(f"has checksum {digest} instead of {self.source.sha256}")


def _first_good(
    urls: Sequence[str], download: _Download, path: Path, warn: Callable[[str], None]
) -> None:
    reasons: dict[str, str] = {}
    unreachable: set[str] = set()
    wrong = False
    for url in urls:
        host = urlsplit(url).netloc
        if host in unreachable:
            continue
        try:
            download.run(url)
        except TransferError as failure:
            reasons[url] = str(failure)
            warn(f"{url}: {failure}.")
            wrong = wrong or isinstance(failure, _WrongFileError)
            if isinstance(failure, UnreachableError):
                unreachable.add(host)
        else:
            return
    raise _explained(download.source, path, reasons, wrong=wrong)


def _explained(
    source: Source, path: Path, reasons: dict[str, str], *, wrong: bool
) -> DownloadError:
    what = "is not the expected file" if wrong else "could not be downloaded"
    listed = "; ".join(f"{url}: {reason}" for url, reason in reasons.items())
    return DownloadError(
        f"{source.name} {what}.",
        details=listed or "It is not in the source cache, and it has no URL.",
        resolution=(
            f"Get the file with the SHA-256 checksum {source.sha256} and put it into the cache:"
            f" install -D -m 644 FILE '{path}' - or set a mirror that has it:"
            " export SLURM_FACTORY_SOURCE_MIRRORS=https://HOST/DIRECTORY"
        ),
    )


def candidates(source: Source, mirrors: Sequence[str]) -> list[str]:
    """The URLs of a source, in the order in which they are tried; mirrors come first."""
    names = dict.fromkeys(PurePosixPath(urlsplit(url).path).name for url in source.urls)
    below = (*names, str(source.stored_as))
    asked = [f"{mirror.rstrip('/')}/{path}" for mirror in mirrors for path in below]
    return [*dict.fromkeys([*asked, *source.urls])]


def _has_checksum(path: Path, source: Source) -> bool:
    return path.is_file() and _sha256(path) == source.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ignore(*_: object) -> None:
    pass
