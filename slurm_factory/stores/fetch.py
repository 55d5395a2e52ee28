"""Fetch a package from a store to where a build would have published it."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from slurm_factory.exceptions import ConfigurationError, OutputError, VerificationError
from slurm_factory.fetch.http import (
    MissingError,
    NoSuchPartError,
    TransferError,
    TransientError,
    with_retries,
)
from slurm_factory.package.manifest import Manifest, load_manifest
from slurm_factory.package.publish import describe, finish_publishing, publish
from slurm_factory.package.signatures import check, trust_of
from slurm_factory.stores.index import Index, StoredPackage, parse_index
from slurm_factory.stores.store import failure
from slurm_factory.util.documents import read_text
from slurm_factory.util.files import file_errors
from slurm_factory.util.hints import nearest, quoted
from slurm_factory.workspace import open_scratch

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.fetch.http import Body
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.package.manifest import File
    from slurm_factory.package.signatures import Trust
    from slurm_factory.stores.store import Store

SERIES = re.compile(r"(?:slurm-)?([0-9]+\.[0-9]+(?:\.[0-9]+(?:[-.][0-9]+)*)?(?:\+[A-Za-z0-9.]+)?)")
LATEST = "latest"
SHOWN = 3


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to have.

    Attributes:
        name: Name of a package, a series, a release, or `latest`.
        build_type: Its type; empty: standard.
        deps: Its recipe; empty: any.
        base: Its base; empty: any.
        arch: Its architecture; empty: that of this machine.
        glibc: The glibc that it must run with; empty: that of this machine.
    """

    name: str
    build_type: str = ""
    deps: str = ""
    base: str = ""
    arch: str = ""
    glibc: str = ""

    @property
    def has_options(self) -> bool:
        """Whether more than a name tells it."""
        return any((self.build_type, self.deps, self.base, self.arch, self.glibc))


@dataclass(frozen=True)
class Fetched:
    """A package that is here now (host paths)."""

    package: StoredPackage
    manifest_path: Path
    manifest: Manifest
    up_to_date: bool


class _StaleError(Exception):
    """The index names files that are not there: it is an older one."""


def read_index(store: Store) -> Index:
    """What a store has.

    Raises:
        DownloadError: It cannot be read, or is broken.
    """
    try:
        return parse_index(with_retries(store.index).content, store.shown)
    except MissingError as error:
        raise failure(store, "There are no packages at", error) from error
    except TransferError as error:
        raise failure(store, "The index cannot be read:", error) from error


def fetch(wanted: Wanted, store: Store, settings: Settings, reporter: Reporter) -> Fetched:
    """Fetch a package, and publish it among the finished builds.

    Raises:
        ConfigurationError: The store has no such package.
        DownloadError: A file cannot be fetched.
        OutputError: It cannot be written.
        VerificationError: A file is not what the index or the manifest says, or nobody who is
            trusted has signed the package.
    """
    try:
        return _fetch(choose(wanted, read_index(store)), store, settings, reporter)
    except _StaleError:
        # A publisher has replaced the index and removed what the older one names.
        reporter.note(f"{store.shown} has changed; reading its index again.")
    package = choose(wanted, read_index(store))
    try:
        return _fetch(package, store, settings, reporter)
    except _StaleError as error:
        missing = TransferError(f"the index names files of {package.stem} that are not there")
        raise failure(store, f"{package.stem} is not complete in", missing) from error


def _fetch(package: StoredPackage, store: Store, settings: Settings, reporter: Reporter) -> Fetched:
    reporter.subject = package.stem
    directory = settings.builds_dir / package.identity.version.partition("+")[0]
    path = directory / package.manifest.name
    finish_publishing(directory)
    if _is_here(package, directory) and _is_usable(package, path, trust_of(settings)):
        return Fetched(package, path, load_manifest(path), up_to_date=True)
    with open_scratch("fetch", settings, reporter) as scratch:
        staging = scratch / "artifacts"
        with file_errors(staging):
            staging.mkdir()
            _require_room(package, staging)
        with reporter.step(f"Fetch {package.stem}"):
            for file in package.all_files:
                _Download(package, file, store, staging / file.name).run(reporter)
        manifest = _checked(package, staging, store)
        check(staging / package.manifest.name, trust_of(settings))
        publish(staging / package.manifest.name, directory)
    return Fetched(package, path, manifest, up_to_date=False)


def _is_here(package: StoredPackage, directory: Path) -> bool:
    """Whether a finished build is the package in the store, byte by byte.

    It may have been verified or signed here since: that stays. If it was not, it lacks nothing
    that the store has.
    """
    names = package.identity.names
    try:
        manifest = load_manifest(directory / names.manifest)
    except OutputError:
        return False
    about = {names.verification, *names.signatures}
    listed = {file for file in package.files if file.name not in about}
    if manifest.identity != package.identity or {*manifest.files} != listed:
        return False
    if not all(_is_same(directory / file.name, file) for file in listed):
        return False
    theirs = {file.name: file for file in package.files if file.name in about}
    if package.record_contradicts(manifest):
        del theirs[names.verification]
    here = {name for name in about if (directory / name).exists()}
    lacks = {*theirs} - here
    own = any(name not in theirs or not _is_same(directory / name, theirs[name]) for name in here)
    return own or not lacks


def _is_same(path: Path, file: File) -> bool:
    try:
        return path.stat().st_size == file.size and describe(path).sha256 == file.sha256
    except OSError:
        return False


def _is_usable(package: StoredPackage, path: Path, trust: Trust) -> bool:
    """Whether the finished build may be used.

    Raises:
        VerificationError: It may not, and neither may the package in the store, which is the same.
    """
    try:
        check(path, trust)
    except VerificationError:
        if all(_is_same(path.parent / file.name, file) for file in package.all_files):
            raise
        return False
    return True


def _require_room(package: StoredPackage, directory: Path) -> None:
    free = _free(directory)
    if package.size > free:
        raise OutputError(
            f"{package.stem} does not fit into {directory}.",
            details=f"It has {package.size} bytes, and {free} are free.",
            resolution="Free space there: slurm-factory clean --caches",
        )


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


class _Download:
    """One file, which a broken transfer continues."""

    def __init__(self, package: StoredPackage, file: File, store: Store, target: Path) -> None:
        self._package, self._file, self._store, self._target = package, file, store, target

    def run(self, reporter: Reporter) -> None:
        """Fetch it, again after a pause if that may help."""
        try:
            with_retries(lambda: self._attempt(reporter.progress), reporter.warning)
        except MissingError as error:
            raise _StaleError from error
        except TransferError as error:
            raise failure(
                self._store, f"{self._file.name} could not be fetched from", error
            ) from error
        sha256 = describe(self._target).sha256
        if sha256 != self._file.sha256:
            raise _tampered(
                self._store, f"{self._file.name} has the checksum {sha256}, which the index denies"
            )

    def _attempt(self, progress: Callable[[int, int | None], None]) -> None:
        with file_errors(self._target):
            offset = self._target.stat().st_size if self._target.exists() else 0
        if offset and offset == self._file.size:
            return
        try:
            with self._store.get(self._package, self._file, offset) as body:
                self._refuse_other_size(body.total)
                received = self._receive(body, progress)
        except NoSuchPartError:
            self._target.unlink(missing_ok=True)
            raise
        if received < self._file.size:
            raise TransientError(f"it ended after {received} of {self._file.size} bytes")

    def _receive(self, body: Body, progress: Callable[[int, int | None], None]) -> int:
        received, start = body.start, body.start
        with file_errors(self._target), self._target.open("ab" if start else "wb") as file:
            for chunk in body.chunks:
                received += len(chunk)
                if received > self._file.size:
                    raise self._other_size("more bytes")
                file.write(chunk)
                progress(received, self._file.size)
        return received

    def _refuse_other_size(self, total: int | None) -> None:
        if total is not None and total != self._file.size:
            raise self._other_size(f"{total} bytes")

    def _other_size(self, what: str) -> VerificationError:
        return _tampered(
            self._store, f"{self._file.name} has {what}, and the index says {self._file.size}"
        )


def _checked(package: StoredPackage, staging: Path, store: Store) -> Manifest:
    """The manifest, which agrees with the index and with every file beside it."""
    try:
        manifest = load_manifest(staging / package.manifest.name)
    except OutputError as error:
        raise _tampered(
            store, f"Its manifest cannot be used: {error.details.rstrip('.')}"
        ) from error
    if manifest.identity != package.identity:
        raise _tampered(store, "The manifest is that of another package than the index says")
    if package.verified_on != (manifest.verified.on if manifest.verified else ()):
        raise _tampered(store, "The index says something else of its verification")
    there = {file.name: file for file in package.files}
    for file in manifest.files:
        if there.get(file.name) != file:
            raise _tampered(store, f"{file.name} is not the file that the manifest names")
    if package.record_contradicts(manifest):
        # A signed package that was verified again: the signature is worth more than the record.
        (staging / manifest.identity.verification).unlink()
    _compare_checksums(manifest, staging, store)
    return manifest


def _compare_checksums(manifest: Manifest, staging: Path, store: Store) -> None:
    """Hold the file for sha256sum(1) against the manifest."""
    checksums = staging / manifest.identity.checksums
    if not checksums.exists():
        return
    sums = {file.name: file.sha256 for file in manifest.files}
    try:
        lines = read_text(checksums).splitlines()
    except ValueError as error:
        raise _tampered(store, f"{checksums.name} is no list of checksums") from error
    for line in lines:
        digest, _, name = line.partition("  ")
        if sums.get(name) != digest:
            raise _tampered(store, f"{checksums.name} and the manifest differ about {name[:80]}")


def _tampered(store: Store, why: str) -> VerificationError:
    return VerificationError(
        f"A package of {store.shown} is not what it should be.",
        details=f"{why}.",
        resolution="Nothing was changed here. Tell the owner of the store to publish it again.",
    )


def choose(wanted: Wanted, index: Index) -> StoredPackage:
    """The package that somebody wants: of several, the newest release that fits.

    Raises:
        ConfigurationError: There is none.
    """
    found = index.find(wanted.name)
    series = SERIES.fullmatch(wanted.name)
    if found and not wanted.has_options and (series is None or _fits_here(found, wanted)):
        return found
    if found and series is None:
        return _fitting(found, wanted)
    if series is None and wanted.name != LATEST:
        near = nearest(wanted.name, [each.stem for each in index.packages])
        raise ConfigurationError(
            f"The store has no package {quoted(wanted.name)}.",
            details=f"Did you mean {near}?" if near else "There are none of a similar name.",
            resolution="`slurm-factory fetch --list` shows what it has.",
        )
    version = series[1] if series else ""
    of_version = [each for each in index.packages if not version or _is_of(each, version)]
    fitting = [each for each in of_version if not _reason_against(each, wanted)]
    if fitting:
        return max(fitting, key=lambda each: (_release(each), each.created, each.stem))
    reasons = [f"{each.stem}: {_reason_against(each, wanted)}" for each in of_version[:SHOWN]]
    raise ConfigurationError(
        f"The store has no package of Slurm {quoted(wanted.name)} that fits.",
        details=f"{'; '.join(reasons) or 'It has none of this release'}.",
        resolution="Choose others with --gpu, --minimal, --deps, --base, --arch or --glibc;"
        " `slurm-factory fetch --list` shows what there is.",
    )


def _fitting(package: StoredPackage, wanted: Wanted) -> StoredPackage:
    """The package of a whole name, if it is what the options say."""
    build_type = wanted.build_type or package.identity.build_type.value
    reason = _reason_against(package, replace(wanted, build_type=build_type))
    if reason:
        raise ConfigurationError(
            f"{package.stem} is not what was asked for.",
            details=f"{reason[:1].upper()}{reason[1:]}.",
            resolution="Omit the option, or choose another package;"
            " `slurm-factory fetch --list` shows what there is.",
        )
    return package


def _is_of(package: StoredPackage, version: str) -> bool:
    identity = package.identity
    return version in {identity.version, identity.release, identity.series}


def _release(package: StoredPackage) -> Version:
    try:
        return Version(package.identity.release)
    except InvalidVersion:
        return Version("0")


def _reason_against(package: StoredPackage, wanted: Wanted) -> str:
    """Why a package is not what somebody wants; empty if it is."""
    identity = package.identity
    build_type = wanted.build_type or "standard"
    if identity.build_type.value != build_type:
        return f"it is {identity.build_type.value}"
    for asked, is_so in ((wanted.deps, identity.deps.value), (wanted.base, identity.base)):
        if asked and asked != is_so:
            return f"it is of {is_so}"
    arch = wanted.arch or platform.machine()
    if identity.arch != arch:
        return f"it is for {identity.arch}"
    limit = wanted.glibc or ("" if wanted.arch else _glibc_here())
    if limit and package.glibc and _numbers(package.glibc) > _numbers(limit):
        return f"it needs glibc {package.glibc}, and there is {limit}"
    return ""


def _fits_here(package: StoredPackage, wanted: Wanted) -> bool:
    identity = package.identity
    asked = Wanted(wanted.name, build_type=identity.build_type.value)
    return not _reason_against(package, asked)


def _glibc_here() -> str:
    name, version = platform.libc_ver()
    return version if name == "glibc" else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
