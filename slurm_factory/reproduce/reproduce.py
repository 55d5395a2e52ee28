"""Build what a manifest describes once more, apart from everything, and compare the bytes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory import builder
from slurm_factory.exceptions import ConfigurationError, SlurmFactoryError, VerificationError
from slurm_factory.package.publish import describe
from slurm_factory.reproduce.again import Given, plan_again
from slurm_factory.reproduce.causes import (
    Cause,
    base_causes,
    explains,
    find_causes,
    packages_of,
    spack_causes,
)
from slurm_factory.reproduce.contents import why_different
from slurm_factory.reproduce.differences import Difference, What, compare_tarballs
from slurm_factory.up_to_date import base_record
from slurm_factory.util.documents import read_bytes
from slurm_factory.util.files import file_errors
from slurm_factory.util.process import run, which
from slurm_factory.verify.package import locate
from slurm_factory.workspace import new_build_id, open_workspace

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.package.manifest import Manifest
    from slurm_factory.package.tarball import Artifact
    from slurm_factory.up_to_date import Outcome

TARBALL_END = ".tar.gz"
TOP = "software/"
SHOWN = 5
"""Causes in one line."""
DIFFOSCOPE = "diffoscope"
DIFFOSCOPE_SECONDS = 600.0
DIFFOSCOPE_FOUND = 1
"""Its exit status where files differ (diffoscope(1))."""
KEPT = "built-again"
"""Directory beside the log for a package that is another one."""


@dataclass(frozen=True)
class Found:
    """A difference in a file of the package, and whether something explains it."""

    path: str
    what: What
    detail: str
    explained: bool


@dataclass(frozen=True)
class ComparedFile:
    """A file of the package and what was built for it.

    Attributes:
        name: File name.
        identical: Whether the bytes are the same.
        package: SHA-256 of the file; as the manifest says where it is not there.
        built: SHA-256 of the one that was built; empty if there is none.
        problem: What is wrong with the package itself, such as another checksum in its manifest.
        members: Number of members that two tarballs have in common; None where that was not asked.
        differences: What differs in it.
    """

    name: str
    identical: bool
    package: str
    built: str
    problem: str = ""
    members: int | None = None
    differences: tuple[Found, ...] = ()


@dataclass(frozen=True)
class Reproduction:
    """What came of building a package again.

    Attributes:
        stem: Name of the package.
        manifest_path: Its manifest (host).
        caches: Whether results of earlier builds were taken.
        seconds: How long the build took.
        causes: What was another one for the package than here.
        files: The tarballs and the SBOM; the others tell of a build, or of these.
        log: Log of the build (host).
        kept: Directory with the package that was built (host), if it is another one.
        diffoscope: Reports of diffoscope (host).
    """

    stem: str
    manifest_path: Path
    caches: bool
    seconds: float
    causes: tuple[Cause, ...]
    files: tuple[ComparedFile, ...]
    log: Path
    kept: Path | None = None
    diffoscope: tuple[Path, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether all files are the same, and the package is what its manifest says."""
        return all(file.identical and not file.problem for file in self.files)

    @property
    def explained(self) -> bool:
        """Whether something explains every difference."""
        # Of a file that is not there, only the checksum is known.
        possible = bool(self.causes)
        return all(
            not file.problem
            and (file.identical or (possible and all(d.explained for d in file.differences)))
            for file in self.files
        )


def reproduce(word: str, given: Given, settings: Settings, reporter: Reporter) -> Reproduction:
    """Build a package again and compare it, byte by byte.

    The package itself and its place stay as they are.

    Args:
        word: The package: a name as `list` prints it, or a path (host) of its manifest or tarball.
        given: What the user gives again.
        settings: Settings of this site.
        reporter: Shows and logs what happens.

    Raises:
        ConfigurationError: There is no such package, it has no manifest, or that cannot be built.
        VerificationError: A tarball of the package is refused.
        SlurmFactoryError: The build failed.
    """
    package = locate(word, settings)
    if package.manifest is None:
        raise ConfigurationError(
            f"{package.path.name} has no manifest, which says how it was built.",
            details="There is none beside the tarball.",
            resolution="Put the manifest beside it, under the name that it had.",
        )
    manifest, directory = package.manifest, package.path.parent
    reporter.subject = manifest.identity.stem
    identity = manifest.identity
    # All others tell of a build, or of these.
    made = (identity.software_tarball, identity.module_tarball, identity.sbom)
    files = {name: _examine(directory / name) for name in made}
    again = plan_again(manifest, given, settings, reporter)
    causes = find_causes(manifest, again.plan.describe())
    _warn(causes, manifest, base_record(again.plan, again.settings), reporter)
    began = time.monotonic()
    with open_workspace(new_build_id("reproduce"), settings, reporter) as workspace:
        apart = again.settings.apart(workspace.work, caches=given.caches)
        outcome = builder.build(
            again.plan,
            apart,
            reporter,
            keep_instance=False,
            offline=given.offline,
            lock=again.lock,
        )
        seconds = time.monotonic() - began
        built = outcome.manifest
        causes += base_causes(manifest.base_record, built.base_record)
        causes += spack_causes(manifest.spack, built.spack)
        with reporter.step("Compare"):
            compared = tuple(_compare(manifest, files, outcome, causes))
        result = Reproduction(
            manifest.identity.stem,
            package.path,
            given.caches,
            round(seconds, 1),
            causes,
            compared,
            log=outcome.log or workspace.log,
        )
        return result if result.identical else _keep(result, directory, outcome, reporter)


def failure(found: Reproduction) -> SlurmFactoryError | None:
    """The error for a package that is another one; None if it is the same."""
    if found.identical:
        return None
    wrong = [file for file in found.files if file.problem or not file.identical]
    first = wrong[0]
    more = f" {len(wrong) - 1} more files of the package differ." if len(wrong) > 1 else ""
    paths = [each.path for each in first.differences if each.path]
    reasons = ", and ".join(filter(None, (_named(paths), first.problem)))
    named = f"{first.name}: {reasons or 'other bytes'}."
    return VerificationError(
        f"{found.stem} is not what comes out when it is built again.",
        details=named + more,
        resolution="What is another one here may explain it; the output names it."
        if found.explained
        else "Nothing that is known explains it. Do not use the package before you know who made"
        " it, and how.",
    )


def _named(paths: list[str]) -> str:
    names = list(dict.fromkeys(paths))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _examine(path: Path) -> Artifact | None:
    """Size and checksum of a file of the package (host); None if it is not there."""
    if not path.exists():
        return None
    with file_errors(path, "read"):
        return describe(path)


def _warn(
    causes: tuple[Cause, ...],
    manifest: Manifest,
    record: Mapping[str, object],
    reporter: Reporter,
) -> None:
    """Say before the build what cannot come out the same."""
    bases = base_causes(manifest.base_record, record) if record else ()
    for what, found in (("The plan differs", causes), ("The bases differ", bases)):
        if found:
            shown = ", ".join(map(str, found[:SHOWN]))
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            reporter.warning(f"{what}: {shown}{more}. Files may therefore differ.")


def _compare(
    manifest: Manifest,
    files: Mapping[str, Artifact | None],
    outcome: Outcome,
    causes: tuple[Cause, ...],
) -> Iterator[ComparedFile]:
    ours = {file.name: file.sha256 for file in manifest.files}
    theirs = {file.name: file.sha256 for file in outcome.manifest.files}
    packages = packages_of(manifest) | packages_of(outcome.manifest)
    for name, there in files.items():
        # Also those that the manifest of the package hides.
        if name not in ours.keys() | theirs.keys():
            continue
        recorded = ours.get(name, "")
        found = ComparedFile(
            name,
            identical=(there.sha256 if there else recorded) == theirs.get(name),
            package=there.sha256 if there else recorded,
            built=theirs.get(name, ""),
            problem=_problem(there, recorded),
        )
        if there and found.built and not found.identical:
            built = outcome.manifest_path.with_name(name)
            found = _look_into(found, there.path, built, causes, packages)
        yield found


def _problem(there: Artifact | None, recorded: str) -> str:
    if not recorded:
        return "its manifest does not list it"
    if there is None or there.sha256 == recorded:
        return ""
    return f"its manifest says that its SHA-256 is {recorded}"


def _look_into(
    found: ComparedFile,
    package: Path,
    built: Path,
    causes: tuple[Cause, ...],
    packages: Mapping[str, str],
) -> ComparedFile:
    """With what differs in it."""
    if found.name.endswith(TARBALL_END):
        try:
            compared = compare_tarballs(package, built)
        except VerificationError as error:
            raise VerificationError(
                f"The tarball {package} is refused.",
                details=error.details,
                resolution="No package is so. Find out who made the file, and do not unpack it.",
            ) from error
        differences, members = compared.differences, compared.members
    else:
        with file_errors(package, "read"):
            detail = _why_other(package, built)
        differences, members = (Difference("", What.CONTENT, detail),), None
    return replace(
        found,
        members=members,
        differences=tuple(
            Found(
                each.path,
                each.what,
                each.detail,
                _is_explained(each.path.removeprefix(TOP), causes, packages),
            )
            for each in differences
        ),
    )


def _why_other(package: Path, built: Path) -> str:
    """Why two files (host) that are no tarballs differ.

    Raises:
        OSError: One cannot be read.
    """
    return why_different(package.name, read_bytes(package), read_bytes(built))


def _is_explained(path: str, causes: tuple[Cause, ...], packages: Mapping[str, str]) -> bool:
    return any(explains(cause, path, packages) for cause in causes)


def _keep(
    result: Reproduction, directory: Path, outcome: Outcome, reporter: Reporter
) -> Reproduction:
    """Keep what was built beside the log, and ask diffoscope where it is installed."""
    kept = result.log.parent / KEPT
    with file_errors(kept):
        shutil.move(outcome.manifest_path.parent, kept)
    differing = [file.name for file in result.files if file.built and not file.identical]
    reports = [
        report
        for name in differing
        if (directory / name).exists()
        and (report := _ask_diffoscope(directory / name, kept / name, result.log, reporter))
    ]
    return replace(result, kept=kept, diffoscope=tuple(reports))


def _ask_diffoscope(package: Path, built: Path, log: Path, reporter: Reporter) -> Path | None:
    """Its report (host); None where it is not installed, or failed."""
    program = which(DIFFOSCOPE)
    if program is None:
        return None
    report = log.parent / f"{DIFFOSCOPE}-{package.name.removesuffix(TARBALL_END)}.txt"
    with reporter.step("Run diffoscope"):
        done = run(
            [str(program), "--text", str(report), str(package), str(built)],
            seconds=DIFFOSCOPE_SECONDS,
            own_session=True,
        )
    if done.status == DIFFOSCOPE_FOUND and report.exists():
        return report
    lines = done.errors.strip().splitlines() or [f"exit status {done.status}"]
    reporter.line(f"diffoscope failed: {lines[-1]}")
    return None
