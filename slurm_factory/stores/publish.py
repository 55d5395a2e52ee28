"""Publish packages to a store: their files first, the index last."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slurm_factory.exceptions import DownloadError, OutputError
from slurm_factory.fetch.http import MissingError, TransferError, with_retries
from slurm_factory.package.manifest import File, load_manifest
from slurm_factory.package.publish import describe, locked, problem_with
from slurm_factory.stores.index import Index, StoredPackage, describe_package, parse_index
from slurm_factory.stores.store import failure
from slurm_factory.util.files import file_errors
from slurm_factory.workspace import open_scratch

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.stores.store import WritableStore

T = TypeVar("T")

TRIES = 20
"""As many publishers at once may be first before this one."""
LONGEST_PAUSE = 1.0


@dataclass(frozen=True)
class Published:
    """What a publication has changed.

    Attributes:
        added: Packages that are new in the store, or replace others of their names.
        unchanged: Packages that were there already.
        removed: Older packages that were removed.
        not_kept: Packages that were to be published, and of which the store keeps newer ones.
    """

    added: tuple[StoredPackage, ...]
    unchanged: tuple[StoredPackage, ...]
    removed: tuple[StoredPackage, ...]
    not_kept: tuple[StoredPackage, ...] = ()


def publish(
    manifests: Sequence[Path],
    store: WritableStore,
    settings: Settings,
    reporter: Reporter,
    *,
    keep: int | None = None,
) -> Published:
    """Publish packages.

    Args:
        manifests: Their manifests (host), beside their files.
        store: Where to.
        settings: Settings of this site.
        reporter: Gets the steps.
        keep: How many of the newest packages of each series and kind stay; None: all.

    Raises:
        DownloadError: The server cannot be reached, or refuses.
        OutputError: A package is incomplete, or the store cannot be written.
    """
    with open_scratch("publish", settings, reporter) as scratch:
        packages: list[tuple[StoredPackage, Path]] = []
        for manifest in manifests:
            # Copies, because a build may replace the package meanwhile.
            directory = scratch / str(len(packages))
            packages.append((_copied(manifest, directory, reporter), directory))
        before = parse_index(_asked(store, store.index_to_replace).content, store.shown)
        new = [(package, place) for package, place in packages if not _is_there(package, before)]
        late = _too_old([package for package, _ in new], before, keep)
        new = [(package, place) for package, place in new if package not in late]
        for package, place in new:
            with reporter.step(f"Send {package.stem}"):
                _send(package, place, store, reporter)
        added = tuple(package for package, _ in new)
        with reporter.step("Write the index"):
            left = _replace_index(added, store, keep)
            removed = _without_files(left, store, reporter)
            leaving = {package.content for package in left}
            # Another publisher may have sent newer ones meanwhile.
            late = (*late, *(package for package in added if package.content in leaving))
            staying = [
                each for each in packages if each[0] not in late and each[0].content not in leaving
            ]
            for package, place in staying:
                _settle(package, place, store, reporter)
    for package in late:
        reporter.warning(f"{package.stem} is not kept: newer ones are enough for --keep {keep}.")
    there = tuple(package for package, _ in staying)
    kept = {package.stem for package in (*added, *late)}
    return Published(
        tuple(package for package in there if package in added),
        tuple(package for package in there if package not in added),
        tuple(each for each in removed if each.stem not in kept),
        late,
    )


def _too_old(
    new: Sequence[StoredPackage], before: Index, keep: int | None
) -> tuple[StoredPackage, ...]:
    """Packages that would leave the store at once."""
    if keep is None:
        return ()
    old = {each.content for each in before.with_packages(new).older_than_newest(keep)}
    return tuple(package for package in new if package.content in old)


def _is_there(package: StoredPackage, index: Index) -> bool:
    there = index.find(package.stem)
    return there is not None and there.content == package.content


def _copied(path: Path, directory: Path, reporter: Reporter) -> StoredPackage:
    """The entry of a package, whose files are now in `directory` as well, too.

    Raises:
        OutputError: It is incomplete, or cannot be read.
    """
    with file_errors(directory):
        directory.mkdir()
    with file_errors(path.parent, "read"), locked(path.parent):
        manifest = load_manifest(path)
        names = manifest.identity.names
        if path.name != names.manifest:
            raise _incomplete(path, f"The manifest should be called {names.manifest}")
        problem = problem_with(manifest, path.parent)
        if problem:
            raise _incomplete(path, problem)
        there = [name for name in names if (path.parent / name).is_file()]
        for name in there:
            _link(path.parent / name, directory / name)
    files = tuple(File.of(describe(directory / name)) for name in there if name != path.name)
    listed = {file for file in files if file.name in {each.name for each in manifest.files}}
    if listed != {*manifest.files}:
        raise _incomplete(path, "Its files changed, or the manifest names others")
    written = File.of(describe(directory / path.name))
    package = describe_package(manifest, written, files, published=datetime.now(UTC))
    if not package.record_contradicts(manifest):
        return package
    record = manifest.identity.verification
    reporter.warning(
        f"{record} is left out, because it is newer than the signed manifest;"
        " `slurm-factory verify --sign KEY` signs that again."
    )
    others = tuple(file for file in files if file.name != record)
    return package.model_copy(update={"files": others})


def _link(source: Path, target: Path) -> None:
    """Files of packages are replaced and never written to, so that a link will do."""
    try:
        os.link(source, target, follow_symlinks=True)
    except OSError:
        shutil.copyfile(source, target)


def _incomplete(path: Path, why: str) -> OutputError:
    return OutputError(
        f"The package {path} cannot be published.",
        details=f"{why.rstrip('.')}.",
        resolution="Build it again: slurm-factory build --force",
    )


def _send(
    package: StoredPackage, directory: Path, store: WritableStore, reporter: Reporter
) -> None:
    try:
        with_retries(partial(store.put, package, directory), reporter.warning)
    except TransferError as error:
        raise failure(store, f"{package.stem} could not be published to", error) from error


def _settle(
    package: StoredPackage, directory: Path, store: WritableStore, reporter: Reporter
) -> None:
    try:
        with_retries(partial(store.settle, package, directory), reporter.warning)
    except TransferError as error:
        raise failure(store, f"{package.stem} could not be completed in", error) from error


def _replace_index(
    added: Sequence[StoredPackage], store: WritableStore, keep: int | None
) -> tuple[StoredPackage, ...]:
    """Name the packages in the index; returns those whose files nobody needs any more."""
    replaced: dict[str, StoredPackage] = {}
    for _ in range(TRIES):
        seen = _asked(store, store.index_to_replace)
        before = parse_index(seen.content, store.shown)
        new = [package for package in added if not _is_there(package, before)]
        whole = before.with_packages(new)
        old = () if keep is None else whole.older_than_newest(keep)
        after = whole.without({package.stem for package in old})
        named = {package.content for package in after.packages}
        replaced |= {each.content: each for each in before.packages}
        leaving = [each for each in (*replaced.values(), *old) if each.content not in named]
        if after == before and seen.content is not None and seen.written and not leaving:
            return ()
        stems = {each.stem for each in leaving} - {each.stem for each in after.packages}
        if _asked(store, partial(store.replace, after.as_bytes(), seen, stems)):
            return tuple({each.content: each for each in leaving}.values())
        time.sleep(random.uniform(0, LONGEST_PAUSE))  # noqa: S311  # so that others go first
    raise DownloadError(
        f"The index of {store.shown} could not be written.",
        details=f"Other publishers were first {TRIES} times.",
        resolution="Run the command again: what it has sent is there.",
    )


def _without_files(
    packages: Sequence[StoredPackage], store: WritableStore, reporter: Reporter
) -> tuple[StoredPackage, ...]:
    """Remove the files of packages that the index no longer names; returns those that are gone."""
    removed = []
    for package in packages:
        try:
            with_retries(partial(store.discard, package))
        except TransferError as error:
            reporter.warning(f"Files of {package.stem} stay in {store.shown}: {error}.")
        else:
            removed.append(package)
    return tuple(removed)


def _asked(store: WritableStore, action: Callable[[], T]) -> T:
    try:
        return with_retries(action)
    except MissingError as error:
        raise failure(store, "There is no place for packages at", error) from error
    except TransferError as error:
        raise failure(store, "The index cannot be used:", error) from error
