"""A source of Slurm that the user names: an archive, a repository, or a work tree."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import shlex
import tarfile
import tempfile
import zlib
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slurm_factory.exceptions import ConfigurationError, DownloadError
from slurm_factory.fetch.git import Git, NoSuchRefError, fetch_ref
from slurm_factory.fetch.http import (
    TransferError,
    TransientError,
    new_session,
    open_url,
    with_retries,
)
from slurm_factory.fetch.sources import Source, archive_extension, cached, fetch
from slurm_factory.plan.base_setup import directory_of, is_repository, without_credentials
from slurm_factory.plan.plan import require_agreement, require_checksum
from slurm_factory.plan.releases import Release, catalog, series
from slurm_factory.util.documents import read_text
from slurm_factory.util.files import file_errors, write_text
from slurm_factory.util.hints import printable, quoted
from slurm_factory.util.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter

GIT = "git+"
META = "META"
LARGEST_META = 1 << 16
MOST_MEMBERS = 100_000
"""META is among the first files of an archive; a release has about 3,000."""
GIT_ARCHIVE = "slurm.tar"
COMMITS = "commits"
FIELD = re.compile(r"^\s*(Name|Version|Release):\s*(\S+)\s*$", re.MULTILINE)
VERSION = re.compile(r"\d{2}\.\d{2}\.\d{1,3}", re.ASCII)
UNREADABLE = (
    *(tarfile.TarError, EOFError, OSError, ValueError, InvalidVersion, OverflowError),
    *(zlib.error, lzma.LZMAError),
)
"""What Python raises for archives that are damaged, or none."""
CANDIDATE = re.compile(r"0?((?:rc|a|b)\d{1,3})", re.ASCII)
"""META's Release of what is not yet a release, such as 0rc1."""


def read_source(
    text: str,
    sha256: str,
    settings: Settings,
    reporter: Reporter,
    *,
    asked: str = "",
    offline: bool = False,
) -> Release:
    """Bring the user's source into the cache, and read which release it is.

    Args:
        text: A file, a directory with a git repository, `git+URL@REF`, or a URL.
        sha256: Its checksum; needed for a URL, computed for a file, empty for repositories.
        settings: Settings of this site.
        reporter: Shows the checksum, the commit and progress.
        asked: The release or series that it has to be; empty: any.
        offline: Use no network.

    Raises:
        ConfigurationError: There is no such source, it is no source of Slurm, or the checksum is
            missing.
        DownloadError: It cannot be fetched, or its checksum is another one.
        OutputError: The cache cannot be written.
    """
    require_checksum(sha256)
    try:
        scheme = urlsplit(text).scheme
        path = Path(text).expanduser().absolute()
        is_file, is_directory = path.is_file(), path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _no_such_source(text, (reason or "It cannot be used").rstrip(".")) from error
    if sha256 and (is_directory or text.startswith(GIT)):
        raise ConfigurationError(
            "--sha256 does not go with a repository.",
            details="The commit says which files are meant.",
            resolution="Omit --sha256, and name the commit: git+URL@COMMIT.",
        )
    if text.startswith(GIT):
        url, ref = _parsed(text)
        return _of_commit(url, ref, settings, reporter, offline=offline, number=asked)
    if scheme in {"http", "https", "file"}:
        return _of_url(text, sha256, settings, reporter, offline=offline, asked=asked)
    if is_directory:
        return _of_directory(path, settings, reporter, asked)
    if not is_file:
        raise _no_such_source(text, "It is no file" if path.exists() else "It does not exist")
    return _of_file(path, sha256, settings, reporter, asked)


def _no_such_source(text: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is no source {quoted(text)}.",
        details=f"{printable(reason)}.",
        resolution="Name an archive, a directory with a git repository, a URL, or git+URL@REF.",
    )


def find_published(tag: str, number: str, settings: Settings, reporter: Reporter) -> Release:
    """Fetch the archive of a tag of upstream whose checksum nobody has told.

    Where neither a mirror nor the repository's server has an archive of it, the files of the tag's
    commit are taken.

    Args:
        tag: Such as slurm-25-11-9-1.
        number: The release that it has to be, such as 25.11.9.
        settings: Settings of this site.
        reporter: Shows progress, and archives that are not of this release.

    Raises:
        DownloadError: It cannot be fetched.
        ConfigurationError: It is no source of this release.
        OutputError: The cache cannot be written.
    """
    name, upstream = f"{tag}.tar.gz", settings.slurm_url.removesuffix(".git")
    remote = directory_of(upstream) is None
    own = [f"{upstream}/archive/refs/tags/{name}"] if remote else []
    for url in [*(f"{mirror.rstrip('/')}/{name}" for mirror in settings.source_mirrors), *own]:
        try:
            with _scratch(settings) as scratch:
                made = scratch / name
                digest = _download(url, made, settings)
                where = (*own, url)[0]
                source = Source(name, digest, made.stat().st_size, (where,), ".tar.gz")
                release = _described(made, source, number=number)
                _keep(made, source, settings)
                return release.model_copy(update=_plain(release, tag))
        except TransferError as error:
            reporter.line(f"{without_credentials(url)}: {error}.")
        except ConfigurationError as error:
            reporter.warning(f"{without_credentials(url)}: {error.brief} {error.details}")
    release = _of_commit(settings.slurm_url, tag, settings, reporter, number=number)
    # It is upstream's own commit.
    return release.model_copy(update={"commit": "", "tag": tag})


def _plain(release: Release, tag: str) -> dict[str, str]:
    """Nothing but the tag, where that is enough to find the archive."""
    known = release.model_copy(update={"location": "", "archive": "", "tag": tag})
    plain = known.url == release.location
    return {"tag": tag} | ({"location": "", "archive": ""} if plain else {})


def _download(url: str, target: Path, settings: Settings) -> str:
    """Fetch a file whose checksum nobody has told; its SHA-256."""

    def attempt() -> str:
        digest = hashlib.sha256()
        with (
            open_url(new_session(), url, 0, settings.download_timeout) as body,
            target.open("wb") as file,
        ):
            received = 0
            for chunk in body.chunks:
                received += len(chunk)
                digest.update(chunk)
                file.write(chunk)
        if body.total not in {None, received}:
            raise TransientError(f"ended after {received} of {body.total} bytes")
        return digest.hexdigest()

    return with_retries(attempt)


def fetch_commit(source: Source, settings: Settings, reporter: Reporter) -> None:
    """Bring a source of a catalog into the cache whose URL is that of a commit.

    Raises:
        DownloadError: It cannot be fetched, or its checksum is another one.
    """
    url, commit = _parsed(source.urls[0])
    release = _of_commit(url, commit, settings, reporter)
    if release.sha256 != source.sha256:
        raise DownloadError(
            f"{source.name} is not the expected file.",
            details=f"The commit {commit} has checksum {release.sha256} instead of"
            f" {source.sha256}: another git packs it in another way.",
            resolution="Run `slurm-factory versions --update`, or name it with --source.",
        )


def _of_url(
    url: str, sha256: str, settings: Settings, reporter: Reporter, *, offline: bool, asked: str
) -> Release:
    if not sha256:
        raise ConfigurationError(
            f"--source {quoted(url)} needs a checksum.",
            details="Without one, nobody would notice another file at this URL.",
            resolution="Add --sha256 SUM, from somebody you trust.",
        )
    source = Source(_name_of(url), sha256.lower(), None, (url,), archive_extension(url))
    if offline and urlsplit(url).scheme != "file" and not cached(source, settings.source_cache_dir):
        raise DownloadError(
            f"--offline: {source.name} is not in the cache.",
            details=f"Its URL is {without_credentials(url)}.",
            resolution="Fetch it before, with the same command without --offline, or name a file.",
        )
    is_new = not cached(source, settings.source_cache_dir)
    path = _fetched(source, settings, reporter)
    try:
        return _described(path, source, number=asked)
    except ConfigurationError:
        if is_new:
            path.unlink()
        raise


def _of_file(
    path: Path, sha256: str, settings: Settings, reporter: Reporter, asked: str
) -> Release:
    with file_errors(path, "read"), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256.lower() not in {"", digest}:
        raise DownloadError(
            f"{path} has another checksum.",
            details=f"It has {digest}, and --sha256 says {printable(sha256)}.",
            resolution="Get the file again, or correct --sha256.",
        )
    reporter.note(f"SHA-256 of {path}: {digest}")
    extension = archive_extension(path.name)
    source = Source(path.name, digest, path.stat().st_size, (path.as_uri(),), extension)
    release = _described(path, source, number=asked)
    _fetched(source, settings, reporter)
    # Where it lay says nothing to others.
    name = printable(path.name)
    return release.model_copy(update={"location": name}) if release.location else release


def _fetched(source: Source, settings: Settings, reporter: Reporter) -> Path:
    return fetch(
        source,
        settings.source_cache_dir,
        timeout=settings.download_timeout,
        report=reporter.progress,
        warn=reporter.warning,
    )


def _of_directory(directory: Path, settings: Settings, reporter: Reporter, asked: str) -> Release:
    if not is_repository(directory):
        raise ConfigurationError(
            f"{directory} is no git repository.",
            details="A package names the commit that it was built from.",
            resolution="Commit the source there, or pack it: tar -cJf slurm.tar.xz -C"
            f" {shlex.quote(str(directory.parent))} {shlex.quote(directory.name)}",
        )
    command = ["git", "-C", str(directory), "status", "--porcelain", "--untracked-files=no"]
    state = run(command)
    if state.output.strip():
        reporter.warning(f"{directory} has changes that are not committed; they are left out.")
    return _of_commit(str(directory), "HEAD", settings, reporter, number=asked)


def _parsed(text: str) -> tuple[str, str]:
    """URL and ref of `git+URL@REF`. A directory may have an @, too."""
    try:
        address = urlsplit(text.removeprefix(GIT))
    except ValueError:
        address = urlsplit("")
    named = "@" in address.path
    path, _, ref = address.path.rpartition("@") if named else (address.path, "", "")
    if not path or address.scheme not in {"http", "https", "file", ""}:
        raise ConfigurationError(
            f"{quoted(text)} is no address of a repository.",
            details="It is git+https://HOST/PATH@REF, or git+file:///DIRECTORY@REF.",
            resolution="Correct --source.",
        )
    return address._replace(path=path).geturl(), ref or "HEAD"


def _of_commit(
    url: str,
    ref: str,
    settings: Settings,
    reporter: Reporter,
    *,
    number: str = "",
    offline: bool = False,
) -> Release:
    directory, named = directory_of(url), f"{without_credentials(url)} {ref}"
    if offline and directory is None:
        return _of_fetched_commit(url, ref, settings, reporter, number)
    with _scratch(settings) as scratch:
        try:
            git = Git(Path(scratch, "git"), str(directory or url), settings.download_timeout)
            commit = fetch_ref(git, ref, reporter.warning)
            made = Path(scratch, GIT_ARCHIVE)
            digest = _write(git, commit, made)
        except TransferError as error:
            raise DownloadError(
                f"{named} could not be fetched.",
                details=f"{error}.",
                resolution="Correct --source, or name a directory with the repository.",
            ) from error
        except NoSuchRefError as error:
            near = ", ".join(error.near)
            raise ConfigurationError(
                f"{without_credentials(url)} has no tag, branch or commit {quoted(ref)}.",
                details=f"Did you mean {near}?" if near else "Write a commit in full.",
                resolution="Correct --source.",
            ) from error
        where = f"{GIT}{without_credentials(url)}@{commit}"
        source = Source(named, digest, made.stat().st_size, (where,), ".tar")
        release = _described(made, source, commit, number)
        _keep(made, source, settings)
        if directory is None:
            fetched = _Fetched(commit=commit, sha256=digest, size=source.size)
            write_text(_remembered(url, ref, settings), fetched.model_dump_json())
    reporter.note(f"{named}: commit {commit}")
    return release


class _Fetched(BaseModel):
    """The commit that a ref was when it was fetched, and its archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    commit: str = Field(pattern=r"^[0-9a-f]{40,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int


def _remembered(url: str, ref: str, settings: Settings) -> Path:
    """File that says which commit a ref was when it was last fetched."""
    key = hashlib.sha256(f"{without_credentials(url)}@{ref}".encode()).hexdigest()
    return settings.source_cache_dir / COMMITS / f"{key}.json"


def _of_fetched_commit(
    url: str, ref: str, settings: Settings, reporter: Reporter, number: str
) -> Release:
    """The release of a commit in the cache, where the repository must not be asked."""
    shown = without_credentials(url)
    named = f"{shown} {ref}"
    with file_errors(settings.source_cache_dir), suppress(FileNotFoundError, ValidationError):
        text = read_text(_remembered(url, ref, settings))
        fetched = _Fetched.model_validate_json(text)
        where = f"{GIT}{shown}@{fetched.commit}"
        source = Source(named, fetched.sha256, fetched.size, (where,), ".tar")
        if archive := cached(source, settings.source_cache_dir):
            reporter.note(f"{named}: commit {fetched.commit}, as it was when it was fetched")
            return _described(archive, source, fetched.commit, number)
    raise DownloadError(
        f"--offline: {named} is not in the cache.",
        details="Only its repository can say which commit it is.",
        resolution="Fetch it before, with slurm-factory prefetch, or name a directory with the"
        " repository, or an archive.",
    )


@contextmanager
def _scratch(settings: Settings) -> Iterator[Path]:
    """A directory in the cache, so that what is made there can be renamed into its place."""
    partial = settings.source_cache_dir / ".partial"
    with file_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=partial, prefix="new-") as scratch:
            yield Path(scratch)


def _keep(made: Path, source: Source, settings: Settings) -> None:
    stored = settings.source_cache_dir / source.stored_as
    stored.parent.mkdir(parents=True, exist_ok=True)
    made.replace(stored)


def _write(git: Git, commit: str, target: Path) -> str:
    """Write the files of a commit, below one directory as releases have it; its SHA-256."""
    digest = hashlib.sha256()
    with git.archive(commit, prefix="slurm/") as stream, target.open("wb") as file:
        while part := stream.read(1 << 20):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _described(archive: Path, source: Source, commit: str = "", number: str = "") -> Release:
    """The release of an archive (host), which may have to be a certain one; the catalog's own if
    it is the same file."""
    for release in catalog():
        if release.sha256 == source.sha256:
            require_agreement(release, number)
            return release
    fields, when = _read_meta(archive, source.name)
    version, candidate = fields["Version"], CANDIDATE.fullmatch(fields.get("Release", ""))
    name = version + (candidate[1] if candidate else "")
    of = version.rpartition(".")[0]
    if Version(of) < Version(series()[0]):
        raise ConfigurationError(
            f"{source.name} is Slurm {name}.",
            details=f"slurm-factory builds {series()[0]} and newer: its patches fit no older one.",
            resolution="Name a newer source.",
        )
    spack_version = f"{version.replace('.', '-')}-{fields.get('Release', '1')}"
    try:
        described = Release(
            release=name,
            series=of,
            spack_version=spack_version,
            tag=f"slurm-{spack_version}",
            date=when,
            sha256=source.sha256,
            size=source.size,
            debian_pool=None,
            archive=f"slurm{source.extension}",
            location=without_credentials(source.urls[0]),
            commit=commit,
        )
    except ValidationError as error:
        raise ConfigurationError(
            f"{quoted(source.name)} cannot be used as a source.",
            details=f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}.",
            resolution="Give it another name or place.",
        ) from error
    require_agreement(described, number)
    return described


def _read_meta(archive: Path, name: str) -> tuple[dict[str, str], str]:
    """Fields of META, and its date."""
    try:
        text, seconds = _meta(archive)
        fields = dict(FIELD.findall(text))
        release = fields.get("Release", "1")
        if fields.get("Name") != "slurm" or not VERSION.fullmatch(fields.get("Version", "")):
            raise ValueError("its META names no version of Slurm")
        if not re.fullmatch(r"[0-9a-z]{1,10}", release, re.ASCII):
            raise ValueError("its META names no release")
        Version(fields["Version"])
        return fields, datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":.")
        raise ConfigurationError(
            f"{name} is no source of Slurm.",
            details=f"{reason[:1].upper()}{reason[1:]}.",
            resolution="Name a release archive of SchedMD, or one of the same form: a directory"
            " with META and configure.",
        ) from error


def _meta(archive: Path) -> tuple[str, float]:
    """Text and time of META, in the top directory of an archive."""
    with tarfile.open(archive, "r:*") as tar:
        for member in _first(tar):
            # With ./ before it, tar would not strip the top directory.
            top, _, rest = member.name.partition("/")
            if top not in {"", "."} and rest == META and member.isfile():
                file = tar.extractfile(member) or io.BytesIO()
                return file.read(LARGEST_META).decode(errors="replace"), member.mtime
    raise ValueError("it has no directory with a META")


def _first(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for number, member in enumerate(tar):
        if number >= MOST_MEMBERS:
            return
        yield member


def _name_of(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name or without_credentials(url)
