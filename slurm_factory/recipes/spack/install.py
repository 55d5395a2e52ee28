"""`spack install`: progress and failures."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential

from slurm_factory.constants import INSTANCE_CACHE
from slurm_factory.exceptions import DownloadError, SlurmFactoryError, SpackError
from slurm_factory.instances.instance import CommandError
from slurm_factory.output.records import PackageProgress, duration
from slurm_factory.output.text import mask_credentials
from slurm_factory.recipes.compiler_errors import compiler_error
from slurm_factory.recipes.patches import PatchProgress
from slurm_factory.recipes.spack.cache import missing_packages, take_packages
from slurm_factory.recipes.spack.failure import (
    Cause,
    FailedPackage,
    Reason,
    explain,
    failed_packages,
)
from slurm_factory.recipes.spack.lock import HASH_SHOWN
from slurm_factory.recipes.spack.sources import fetch_skipped
from slurm_factory.util.files import cache_is_full, disk_full_lines, has_no_room
from slurm_factory.util.process import TAIL_LINES, error_line

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.recipes.spack.lock import Lock, Node
    from slurm_factory.recipes.spack.session import Spack

ATTEMPTS = 4
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
BUNDLE = "failed"
BUILD_LOG = "spack-build-out.txt"
ENVIRONMENT_DUMP = "spack-build-env.txt"
OLD_INSTALLER = ("-c", "config:installer:old", "install", "--only-concrete")


class _TransientError(DownloadError):
    """A source could not be fetched, which may succeed later."""


def install(spack: Spack, lock: Lock, *, remote: frozenset[str] = frozenset()) -> InstallProgress:
    """Install every package of `lock`, from the build cache or from source.

    Finished packages are in the build cache afterwards, even on failure. Only failed downloads are
    tried again.

    Args:
        spack: Spack session with the project of `lock` in the instance.
        lock: What to install.
        remote: Hashes of packages from remote build caches, whose sources were left out.

    Raises:
        SpackError: A package failed; its log and other evidence are in the logs.
        DownloadError: A source could not be fetched, or is not what its package recipe expects.
        OutputError: The cache directory is full.
    """
    progress = InstallProgress(lock.packages)
    delivery = _Delivery(spack, lock, missing_packages(spack, lock, remote))
    skipped = [node for node in lock.packages if node.hash in remote]
    retrying = Retrying(
        retry=retry_if_exception_type(_TransientError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        before_sleep=lambda state: _announce(spack, state),
        reraise=True,
    )
    try:
        retrying(_attempt, spack, progress, skipped, delivery)
    except (SpackError, DownloadError):
        # Report the first error.
        with suppress(SlurmFactoryError, OSError):
            delivery.take(progress)
        raise
    delivery.take(progress)
    delivery.warn(progress)
    return progress


class _Delivery:
    """Takes new packages out of the instance, each as soon as it is finished."""

    def __init__(self, spack: Spack, lock: Lock, missing: Iterable[Node]) -> None:
        self._spack, self._lock = spack, lock
        self._missing = {node.hash: node for node in missing}
        self._problem = ""

    def take(self, progress: InstallProgress) -> None:
        """Take those that are finished now; raises as `take_packages` does, but for CommandError:
        a failure to take one is not a failure to build it."""
        finished = self._finished(progress)
        try:
            for digest in take_packages(self._spack, self._lock, finished):
                del self._missing[digest]
        except CommandError as error:
            self._problem = error.details
            self._spack.job.reporter.line(f"{error.brief} {error.details}")

    def warn(self, progress: InstallProgress) -> None:
        """Report packages that the next build has to build again."""
        left = ", ".join(node.label for node in self._finished(progress))
        if left and self._problem:
            self._spack.job.reporter.warning(
                f"Not added to the build cache: {left}. {self._problem}"
            )

    def _finished(self, progress: InstallProgress) -> list[Node]:
        done = {s.node.hash for s in progress.states.values() if s.done and not s.from_cache}
        return [node for digest, node in self._missing.items() if digest in done]


def _announce(spack: Spack, state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    spack.job.reporter.warning(f"{failure} Next attempt in {duration(pause)}.")


def _attempt(
    spack: Spack, progress: InstallProgress, skipped: list[Node], delivery: _Delivery
) -> None:
    reporter = spack.job.reporter

    def take(line: str) -> None:
        reporter.line(line)
        state = progress.take(line)
        if state is None:
            return
        if state.damaged and state.phase == "staging" and not state.ended:
            reporter.warning(
                f"The entry of {state.node.label} in a build cache is damaged or gone: building the"
                " package again."
            )
        reporter.packages(progress.snapshot(state if state.done else None))
        if state.done:
            # At once: if this program or the machine is killed, they are not lost.
            delivery.take(progress)

    try:
        spack.run("install", "--only-concrete", "-j", str(spack.job.jobs), on_line=take)
    except CommandError as error:
        _explain(spack, progress, skipped, error)


def _explain(
    spack: Spack, progress: InstallProgress, skipped: list[Node], error: CommandError
) -> NoReturn:
    failed = failed_packages(error.tail)
    if not failed:
        raise _failure_of_spack(spack, error) from error
    bundle = _keep_evidence(spack, failed)
    try:
        for package in failed:
            _require_patches_fit(spack, package, bundle)
        reasons = {package: _reason(spack, package, bundle) for package in failed}
        # A failure that a retry may fix must not hide one that it cannot.
        package = min(failed, key=lambda each: reasons[each].transient)
        _dump_environment(spack, package, bundle)
    finally:
        _mask(bundle)
    reason = reasons[package]
    for line in reason.lines:
        spack.job.reporter.line(f"{package.label}: {line}")
    if source_error := next(filter(None, map(compiler_error, reason.lines)), None):
        spack.job.reporter.source_error(source_error)
    if reason.cause is Cause.FETCH and _fetch_skipped(spack, progress, skipped, failed):
        reason = replace(reason, transient=True)
    raise _failure(spack, progress, package, reason) from error


def _fetch_skipped(
    spack: Spack,
    progress: InstallProgress,
    skipped: list[Node],
    failed: tuple[FailedPackage, ...],
) -> bool:
    """Whether skipped sources are available now; empties `skipped`."""
    urgent = {package.hash for package in failed}
    done = {state.node.hash for state in progress.states.values() if state.done}
    waiting = [node for node in skipped if node.hash not in done]
    skipped.clear()
    try:
        return fetch_skipped(spack, sorted(waiting, key=lambda node: node.hash not in urgent))
    except SpackError:
        # Report why the package failed.
        return False


def _keep_evidence(spack: Spack, failed: tuple[FailedPackage, ...]) -> Path:
    bundle = spack.logs / BUNDLE
    with suppress(SlurmFactoryError, OSError):
        shutil.rmtree(bundle, ignore_errors=True)
        logs = "\n".join(str(package.log) for package in failed)
        taken = spack.fill(f"evidence-{secrets.token_hex(3)}", "spack-evidence.sh", {"LOGS": logs})
        shutil.move(taken, bundle)
    return bundle


def _mask(bundle: Path) -> None:
    """Users share bundles, and the environment of a build contains the proxies."""
    for path in bundle.rglob("*"):
        with suppress(OSError):
            text = path.read_bytes().decode(errors="surrogateescape")
            path.write_bytes(mask_credentials(text).encode(errors="surrogateescape"))


def _require_patches_fit(spack: Spack, package: FailedPackage, bundle: Path) -> None:
    """A patch that does not fit is a mistake of the user, not of Spack."""
    patching = PatchProgress(lambda _: None)
    for line in _log(package, bundle):
        patching(line)
    # Other packages have patches of their own.
    if patching.patch and patching.failed:
        raise patching.error(spack.job.plan.release.release)


def _log(package: FailedPackage, bundle: Path) -> list[str]:
    log = bundle / package.stage / BUILD_LOG
    return log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []


def _reason(spack: Spack, package: FailedPackage, bundle: Path) -> Reason:
    return explain(_log(package, bundle)) or _reason_of_old_installer(spack, package)


def _reason_of_old_installer(spack: Spack, package: FailedPackage) -> Reason:
    """The new installer may not print the reason.

    Errors before a package has a log are lost, and so may be the end of a log if a package fails
    early (Spack 1.1.0).
    """
    output: deque[str] = deque(maxlen=TAIL_LINES)

    def take(line: str) -> None:
        spack.job.reporter.line(line)
        output.append(line)

    try:
        spack.run(*OLD_INSTALLER, f"/{package.hash}", on_line=take)
    except SlurmFactoryError:
        return explain(tuple(output)) or Reason(
            Cause.BUILD, (error_line(tuple(output), "It printed nothing."),)
        )
    return Reason(Cause.BUILD, ("The second attempt installed it.",), transient=True)


def _dump_environment(spack: Spack, package: FailedPackage, bundle: Path) -> None:
    """The build environment of the package, for manual tests."""
    dumped = spack.instance.build_dir / ENVIRONMENT_DUMP
    with suppress(SlurmFactoryError, OSError):
        spack.run("build-env", "--dump", str(dumped), f"/{package.hash}")
        folder = bundle / package.stage
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ENVIRONMENT_DUMP).write_bytes(spack.instance.take_file(dumped))


def _failure_of_spack(spack: Spack, error: CommandError) -> SlurmFactoryError:
    """A failure outside of any package."""
    full = disk_full_lines(error.tail)
    if full:
        return _disk_full(spack, "spack install failed", full[-1])
    return SpackError(
        "spack install failed.",
        details=error.details,
        resolution=f"{error.resolution} Evidence: {spack.logs}.".strip(),
    )


def _failure(
    spack: Spack, progress: InstallProgress, package: FailedPackage, reason: Reason
) -> SlurmFactoryError:
    evidence = f"Evidence: {spack.logs}."
    details = reason.lines[0]
    state = progress.find(package.hash)
    in_phase = f" in phase {state.phase}" if state and state.phase else ""
    match reason.cause:
        case Cause.FETCH:
            failure = _TransientError if reason.transient else DownloadError
            return failure(
                f"The source of {package.label} could not be fetched.",
                details=details,
                resolution="Check the network and its proxies, or fill the source cache on another"
                f" machine: slurm-factory prefetch. {evidence}",
            )
        case Cause.CHECKSUM:
            return DownloadError(
                f"The source of {package.label} has the wrong checksum.",
                details=" ".join(reason.lines[:2]),
                resolution="Remove the wrong file from its mirror, or set"
                f" SLURM_FACTORY_SOURCE_MIRRORS to another one. {evidence}",
            )
        case Cause.DISK:
            return _disk_full(spack, f"{package.label} failed{in_phase}", details)
        case Cause.MEMORY:
            return SpackError(
                f"{package.label} failed{in_phase}: it was killed, most likely because it ran"
                " out of memory.",
                details=details,
                resolution=f"Raise SLURM_FACTORY_MEMORY_LIMIT or lower --jobs. {evidence}",
            )
        case Cause.BUILD:
            brief = f"{package.label} failed{in_phase}."
            if reason.transient:
                return _TransientError(brief, details=details, resolution=evidence)
            return SpackError(brief, details=details, resolution=evidence)


def _disk_full(spack: Spack, what: str, details: str) -> SlurmFactoryError:
    cache = spack.job.settings.cache_dir
    # There is space again after a large file that did not fit was removed.
    if str(INSTANCE_CACHE) in details or has_no_room(cache):
        return cache_is_full(what, cache, details)
    profile = f"lxc --project {spack.job.settings.project_name} profile show default"
    return SpackError(
        f"{what}: the disk of the instance is full.",
        details=details,
        resolution="Free space in LXD's storage pool (lxc storage list), or raise the limit of its"
        f" instances ({profile}), then build again: finished packages are in the build cache."
        f" Evidence: {spack.logs}.",
    )


STATE = re.compile(r"(?P<hash>[a-z0-9]{7}) (?P<label>[^@\s]+@[^:\s]+): (?P<state>\S.*)")
"""A line of the new installer without a terminal (Spack 1.1, BuildStatus.update_state)."""
FETCHING = "fetching from build cache"
STAGING = "staging"
FINISHED = "finished"
FAILED = "failed"


@dataclass
class PackageState:
    """State of one package; times are clock times in seconds."""

    node: Node
    phase: str = ""
    """Its last phase; `finished` and `failed` are not phases."""
    from_cache: bool = False
    damaged: bool = False
    """The build cache's copy could not be used."""
    began: float | None = None
    ended: float | None = None
    failed: bool = False

    @property
    def done(self) -> bool:
        """Whether it is installed."""
        return self.ended is not None and not self.failed

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return (self.ended or 0.0) - (self.began or 0.0) if self.ended else 0.0


@dataclass
class InstallProgress:
    """Progress of an installation over several attempts.

    Args:
        nodes: Packages to install.
        clock: Returns the time in seconds.
    """

    nodes: Iterable[Node]
    clock: Callable[[], float] = time.monotonic
    states: dict[str, PackageState] = field(init=False)

    def __post_init__(self) -> None:
        self.states = {node.hash[:HASH_SHOWN]: PackageState(node) for node in self.nodes}

    def take(self, line: str) -> PackageState | None:
        """Note a line of output; returns the package that it names, if any."""
        found = STATE.fullmatch(line)
        state = self.states.get(found["hash"]) if found else None
        if found is None or state is None:
            return None
        self._change(state, found["state"])
        return state

    def find(self, digest: str) -> PackageState | None:
        """The package with a hash."""
        return self.states.get(digest[:HASH_SHOWN])

    def snapshot(self, last: PackageState | None = None) -> PackageProgress:
        """The progress for the screen; `last` is the package that has just finished."""
        states = self.states.values()
        done = [state for state in states if state.done]
        return PackageProgress(
            done=len(done),
            total=len(self.states),
            cached=sum(state.from_cache for state in done),
            active=tuple(self._active(s) for s in states if s.began is not None and not s.ended),
            last=_finished(last) if last else "",
        )

    def _change(self, state: PackageState, name: str) -> None:
        now = self.clock()
        if name in {FINISHED, FAILED}:
            state.ended, state.failed = now, name == FAILED
            return
        if state.ended is not None or state.began is None:
            state.began, state.ended, state.failed = now, None, False
        if name == FETCHING:
            state.from_cache = True
        elif name == STAGING:
            # Spack does not report the change from the cache to the source.
            state.damaged = state.damaged or state.from_cache
            state.from_cache = False
        state.phase = name

    def _active(self, state: PackageState) -> str:
        took = duration(self.clock() - (state.began or 0.0))
        return f"{state.node.label}: {state.phase} ({took})"


def _finished(state: PackageState) -> str:
    origin = "from the build cache" if state.from_cache else "built"
    return f"{state.node.label} {origin} in {duration(state.seconds)}"
