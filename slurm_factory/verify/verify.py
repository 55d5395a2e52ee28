"""Verify a package: its files, and clusters in clean instances of other distributions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory import __version__
from slurm_factory.exceptions import (
    ConfigurationError,
    LXDError,
    OutputError,
    SlurmFactoryError,
    VerificationError,
)
from slurm_factory.instances.build_instance import confine
from slurm_factory.instances.clean_instance import (
    NoImageError,
    clean_instance,
    prepare,
    reaching,
)
from slurm_factory.instances.machine import Machine
from slurm_factory.package.file_names import SOFTWARE_END
from slurm_factory.package.manifest import File
from slurm_factory.package.publish import describe
from slurm_factory.package.verification import Check, Suite, Trial, Upgrade, Verification, record
from slurm_factory.plan.bases import Distro, distros, find_distro, host_release
from slurm_factory.util.files import file_errors, write_text
from slurm_factory.util.signals import signals_held
from slurm_factory.verify.cluster import places
from slurm_factory.verify.static import Opened, StaticReport, look
from slurm_factory.verify.suite import find_tests, install_tests, require_manifest, try_suite
from slurm_factory.verify.trial import try_package
from slurm_factory.verify.upgrade import try_upgrade
from slurm_factory.workspace import Workspace, new_build_id, open_workspace

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.verify.package import Package

IN_USE = tuple(
    map(
        Path,
        (
            "/etc/slurm",
            "/etc/munge",
            "/run/mysqld/mysqld.sock",
            "/home/alice",
            "/opt/slurm versions",
        ),
    )
)
"""What `--here` makes, and takes away afterwards."""
SHOWN = 10
"""So many tests are named in an error."""


@dataclass(frozen=True)
class VerifyRequest:
    """What to verify, and how.

    Attributes:
        package: The package.
        on: Names of distributions; empty: the oldest and the newest on which it starts.
        static: Only read its files.
        suite: Also run SchedMD's tests, with plain Slurm and with the package.
        here: Use this machine, which nobody needs afterwards, instead of instances.
        upgrade_from: Older packages, the oldest first.
        keep_instance: Keep the last instance.
        sign_key: Names the key that signs the manifest again with the result; empty: none.
    """

    package: Package
    on: tuple[str, ...] = ()
    static: bool = False
    suite: bool = False
    here: bool = False
    upgrade_from: tuple[Package, ...] = ()
    keep_instance: bool = False
    sign_key: str = ""


@dataclass(frozen=True)
class Verdict:
    """The result.

    Attributes:
        verification: What was checked.
        distributions: Those that have the glibc which it needs, for display.
        path: The record (host); None if it could not be put beside the package.
        error: Why it could not be written, if that is an error.
        log: The log (host), beside the logs of daemons of clusters that failed.
        static: Only the files were to be checked.
    """

    verification: Verification
    distributions: tuple[str, ...]
    path: Path | None
    error: OutputError | None
    log: Path
    static: bool


def verify(request: VerifyRequest, settings: Settings, reporter: Reporter) -> Verdict:
    """Verify a package, and put the record beside it.

    Args:
        request: What to verify.
        settings: Settings of this site.
        reporter: Shows each check.

    Raises:
        ConfigurationError: There is no such distribution, this machine cannot be used, or SchedMD's
            tests cannot be had for the package.
        DownloadError: The source archive with SchedMD's tests could not be fetched.
        LXDError: LXD, or this machine, cannot be used.
        OutputError: A file cannot be read or written.
        VerificationError: SchedMD's tests do not work with plain Slurm.
    """
    if request.here and request.on:
        raise ConfigurationError(
            "--here uses this machine, and --on names others.", resolution="Omit one of them."
        )
    named = tuple(map(find_distro, request.on))
    if request.suite:
        _require_suite(request)
    if request.here:
        named = (_require_disposable(),)
    with open_workspace(new_build_id("verify"), settings, reporter) as workspace:
        reporter.log_to(workspace.log.parent)
        bench = _Bench(request, settings, reporter, workspace)
        package = _copy(request.package, workspace.work)
        report = bench.look(package, "package")
        found = _begun(report, package)
        written = _record(found, request, reporter)
        if report.opened and not request.static:
            way = [bench.open_older(each, at) for at, each in enumerate(request.upgrade_from)]
            groups = tuple((each,) for each in named) or choose(report)
            last = groups[-1][0]
            for group in groups:
                trial, last = bench.trial(report.opened, group, found)
                if trial:
                    found = found.model_copy(update={"trials": (*found.trials, trial)})
                    written = _record(found, request, reporter)
            if way:
                upgrade = bench.upgrade([*way, report.opened], last)
                found = found.model_copy(update={"upgrades": (upgrade,)})
                written = _record(found, request, reporter)
        if report.opened and request.suite:
            found = found.model_copy(update={"suite": bench.suite(report.opened)})
            written = _record(found, request, reporter)
        return Verdict(found, report.distributions, *written, workspace.log, static=request.static)


def _copy(package: Package, directory: Path) -> Package:
    """The package with tarballs that nobody else can change while they are looked at and tried."""
    copies = directory / "copies"
    with file_errors(copies):
        copies.mkdir()
        software = Path(shutil.copyfile(package.software, copies / "software.tar.gz"))
        module = package.module and Path(shutil.copyfile(package.module, copies / "module.tar.gz"))
    return replace(package, software=software, module=module)


def _begun(report: StaticReport, package: Package) -> Verification:
    looked_at = describe(package.software)
    return Verification(
        stem=package.stem,
        release=report.opened.tree.release if report.opened else "",
        created=datetime.now(UTC),
        slurm_factory=__version__,
        software=File(
            name=f"{package.stem}{SOFTWARE_END}", size=looked_at.size, sha256=looked_at.sha256
        ),
        glibc=report.glibc,
        static=report.checks,
    )


def failure(verdict: Verdict) -> SlurmFactoryError | None:
    """The error for a package that failed, or whose record is lost; None if it passed."""
    verification = verdict.verification
    if verification.passed and (verification.trials or verdict.static):
        return verdict.error
    failed = verification.failures
    worse = verification.suite.worse if verification.suite else ()
    if failed:
        more = f" {len(failed) - 1} more failed." if len(failed) > 1 else ""
        brief, details = f"failed the check {failed[0].name}.", f"{failed[0].brief}{more}"
    elif worse:
        brief = "fails tests of SchedMD's that plain Slurm passes."
        more = f" and {len(worse) - SHOWN} more" if len(worse) > SHOWN else ""
        details = f"{', '.join(worse[:SHOWN])}{more}"
    else:
        return VerificationError(f"No cluster has run from {verification.stem}.")
    return VerificationError(
        f"{verification.stem} {brief}",
        details=details,
        resolution=f"The logs of its daemons are in {verdict.log.parent}; docs/verification.md"
        " describes each check.",
    )


def require_passed(verdict: Verdict) -> None:
    """Do nothing if the package passed.

    Raises:
        VerificationError: It did not.
    """
    if error := failure(verdict):
        raise error


@dataclass(frozen=True)
class _Bench:
    """Where packages are tried."""

    request: VerifyRequest
    settings: Settings
    reporter: Reporter
    workspace: Workspace

    def look(self, package: Package, name: str) -> StaticReport:
        """Read the files of a package."""
        with self.reporter.step(f"Check the files of {package.stem}"):
            scratch = self.workspace.work / name
            scratch.mkdir()
            report = look(package, scratch)
            for check in report.checks:
                self.show("files", check)
            return report

    def open_older(self, package: Package, number: int) -> Opened:
        """Unpack an older package.

        Raises:
            VerificationError: It cannot be unpacked, or has no accounting.
        """
        report = self.look(package, f"older-{number}")
        if report.opened is None:
            raise VerificationError(
                f"{package.stem} cannot be unpacked.", details=report.checks[-1].brief
            )
        if not report.opened.tree.accounting:
            raise VerificationError(
                f"{package.stem} has no accounting.",
                details="Without slurmdbd there is nothing to upgrade first.",
                resolution="Name standard packages.",
            )
        return report.opened

    def trial(
        self, opened: Opened, group: Sequence[Distro], found: Verification
    ) -> tuple[Trial | None, Distro]:
        """A trial on the first of a group of distributions that an image can be had for.

        Returns:
            What was found, and the distribution; no trial where it was tried before.

        Raises:
            NoImageError: There is no image of any of them.
        """
        tried = {trial.distro for trial in found.trials}
        missing: NoImageError | None = None
        for distro in group:
            if distro.name in tried:
                return None, distro
            try:
                with self.machine(distro) as machine:
                    name = f"Clusters on {distro.title}"
                    with self.reporter.step(name):
                        return try_package(opened, machine, distro, self.show, self.save), distro
            except NoImageError as error:
                missing = error
                if len(group) > 1:
                    self.reporter.warning(f"{distro.title} is left out: {error.brief}")
        raise missing or NoImageError("There is no distribution to verify on.")

    def upgrade(self, way: Sequence[Opened], distro: Distro) -> Upgrade:
        """An upgrade from the first of the packages to the last."""
        with self.machine(distro) as machine, self.reporter.step(f"Upgrade on {distro.title}"):
            return try_upgrade(way, machine, distro, self.show, self.save)

    def suite(self, opened: Opened) -> Suite | None:
        """SchedMD's tests where the package was built; None if there are none."""
        tests = find_tests(opened, self.settings, self.reporter)
        if tests is None:
            return None
        distro = find_distro(require_manifest(opened.package).identity.base)
        with self.instance(distro, offline=False) as machine:
            install_tests(reaching(machine, distro, self.settings), tests, self.reporter)
            confine(machine.name, self.settings, self.workspace.lock, offline=True)
            return try_suite(opened, tests, machine, distro, self.reporter, self.save)

    def instance(self, distro: Distro, *, offline: bool) -> AbstractContextManager[Machine]:
        """A clean instance."""
        return clean_instance(
            distro,
            self.settings,
            self.reporter,
            self.workspace,
            keep=self.request.keep_instance,
            offline=offline,
        )

    @contextmanager
    def machine(self, distro: Distro) -> Iterator[Machine]:
        """A clean machine."""
        if not self.request.here:
            with self.instance(distro, offline=True) as machine:
                yield machine
            return
        machine = Machine()
        with self.reporter.step(f"Prepare {distro.title}"):
            prepare(machine, distro, self.settings)
        try:
            yield machine
        finally:
            with signals_held():
                machine.run("remove.sh", *(place.tree.parent for place in places()))

    def show(self, where: str, check: Check) -> None:
        """Show a check that has ended."""
        text = f"{where}: {check.name} {check.result}, {check.seconds:.1f} s: {check.brief}"
        if check.result == "failed":
            for line in check.detail.splitlines():
                self.reporter.line(line)
            self.reporter.warning(text)
        else:
            self.reporter.line(text)

    def save(self, name: str, text: str) -> None:
        """Keep the logs of daemons."""
        write_text(self.workspace.log.parent / f"{name}.log", text)


def choose(report: StaticReport) -> tuple[tuple[Distro, ...], ...]:
    """Groups of distributions, the best of each first: the oldest on which it starts, the newest.

    Raises:
        VerificationError: It starts on none that images can be had for.
    """
    starts = [distro for distro in distros() if distro.title in report.distributions]
    if not starts:
        raise VerificationError(
            f"The package needs glibc {report.glibc}.",
            details="No distribution that slurm-factory can start in LXD has it.",
            resolution="Name a distribution (--on), or check its files only (--static).",
        )
    return tuple(starts), tuple(reversed(starts))


def _record(
    verification: Verification, request: VerifyRequest, reporter: Reporter
) -> tuple[Path | None, OutputError | None]:
    """Write what is known so far; an error must not end what runs."""
    package = request.package
    directory = (package.manifest_path or package.software).parent
    if not os.access(directory, os.W_OK) or os.statvfs(directory).f_flag & os.ST_RDONLY:
        reporter.warning(f"The record cannot be put into {directory}.")
        return None, None
    try:
        path = record(
            verification, package.manifest, package.manifest_path, directory, request.sign_key
        )
    except OutputError as error:
        return None, error
    return path, None


def _require_suite(request: VerifyRequest) -> None:
    if request.here:
        raise ConfigurationError(
            "--suite and --here exclude each other.",
            details="The tests install a compiler's packages and change users of the machine.",
            resolution="Let an instance be started: omit --here.",
        )
    find_distro(require_manifest(request.package).identity.base)


def _require_disposable() -> Distro:
    """The distribution of this machine, which must not have a cluster.

    Raises:
        ConfigurationError: Its distribution is not known.
        LXDError: This is not root, or the machine has a cluster.
    """
    if os.geteuid() != 0:
        raise LXDError(
            "--here needs root.",
            details="It installs packages, makes users and starts daemons on this machine.",
            resolution="Run it as root on a machine that nobody needs afterwards.",
        )
    if used := [path for path in IN_USE if path.exists()]:
        raise LXDError(
            f"--here: this machine has a {used[0]}.",
            details="A cluster or a user seems to need it.",
            resolution="Use another machine, or let instances be started: omit --here.",
        )
    name = "@".join(host_release())
    known = {distro.name: distro for distro in distros()}
    if name not in known:
        raise ConfigurationError(
            f"--here: nobody has prepared {name} for a cluster.",
            details=f"Known are {', '.join(known)}.",
            resolution="Use one of these.",
        )
    return known[name]
