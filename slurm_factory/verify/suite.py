"""SchedMD's own tests, run by a plain build of the same source archive and by the package."""

from __future__ import annotations

import secrets
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, StringConstraints, ValidationError

from slurm_factory import resources
from slurm_factory.exceptions import ConfigurationError, VerificationError
from slurm_factory.fetch.catalogs import known_releases
from slurm_factory.fetch.sources import Source, archive_extension, cached
from slurm_factory.fetch.upstream import SLURM, debian_mirrors, slurm_source
from slurm_factory.instances.machine import ScriptError
from slurm_factory.package.deployment import no_cgroups
from slurm_factory.package.verification import Result, Suite
from slurm_factory.plan.features import table
from slurm_factory.plan.releases import catalog
from slurm_factory.supplies import fetch_source_archives
from slurm_factory.util.files import file_errors
from slurm_factory.verify.cluster import SOFTWARE, UNPACKED

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.instances.machine import Machine
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.package.manifest import Manifest
    from slurm_factory.package.tree import Tree
    from slurm_factory.plan.bases import Distro
    from slurm_factory.verify.package import Package
    from slurm_factory.verify.static import Opened

LIST, PACKAGES = "suite-tests.txt", "suite-packages.txt"
NEEDED = ("accounting_storage_mysql", "auth_jwt", "auth_munge")
"""Plugins without which the suite's cluster does not start."""
SECONDS = 7200
"""Limit for all tests, which take 750 s on two busy cores."""
LARGEST = 1 << 30
"""Limit for the content of a source archive in bytes; Slurm's has 60 MB."""
LEAST_SHARE = 0.9
"""If plain Slurm passes fewer, something is wrong with the cluster, and the result says nothing."""
LOGS_KEPT, LOG_BYTES, DAEMON_LINES = 40, 20_000, 400
"""So many logs of tests that failed, so many bytes of each, so many lines of each daemon."""
DIRECTORY = PurePosixPath("/opt/slurm-suite")
SOURCE = DIRECTORY / "source"
PLAIN = PurePosixPath("/usr/local/plain")


Note = Annotated[str, StringConstraints(max_length=400)]
"""Twice what run-suite.py prints."""


@dataclass(frozen=True)
class SourceTests:
    """What to run.

    Attributes:
        archive: The source archive (host) of the release, with its test suite.
        sha256: Its checksum.
        lines: Those of the list whose tests it has, by name.
    """

    archive: Path
    sha256: str
    lines: Mapping[str, str]


class Outcome(BaseModel):
    """A line of run-suite.py, which runs in an instance that nobody trusts."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    name: str
    result: Result
    seconds: NonNegativeFloat
    reason: Note = ""
    repaired: Note = ""


def listed_tests() -> dict[str, str]:
    """Lines of the list, by the names of their tests."""
    lines = resources.verify_file(LIST).splitlines()
    chosen = [line for line in lines if line and not line.startswith("#")]
    return {line.split()[0].partition("@")[0]: line for line in chosen}


def require_manifest(package: Package) -> Manifest:
    """The manifest of a package, which names the source archive with the tests.

    Raises:
        ConfigurationError: There is none.
    """
    if package.manifest is None:
        raise ConfigurationError(
            f"--suite: {package.stem} has no manifest.",
            details="It names the source archive, which contains the tests.",
            resolution=f"Put the manifest beside {package.software}, or omit --suite.",
        )
    return package.manifest


def find_tests(opened: Opened, settings: Settings, reporter: Reporter) -> SourceTests | None:
    """Fetch the source archive of a package, and look for the tests in it.

    Args:
        opened: The package, which has a manifest.
        settings: Settings of this site.
        reporter: Shows progress, and why there is nothing to run.

    Returns:
        The tests; None if the archive has no suite, or the package no accounting.

    Raises:
        ConfigurationError: Nobody here knows the archive that the manifest names.
        DownloadError: The archive could not be fetched.
        OutputError: It cannot be read, or the cache cannot be written.
        VerificationError: It is no archive of Slurm.
    """
    stem = opened.package.stem
    if lacking := [name for name in NEEDED if not opened.tree.has_plugin(name)]:
        reporter.warning(f"SchedMD's tests are left out: {stem} has no {', '.join(lacking)}.")
        return None
    source = _source(require_manifest(opened.package), settings, reporter)
    archive = fetch_source_archives({SLURM: source}, settings, reporter)[SLURM]
    lines = listed_in(archive)
    if not lines:
        release = opened.tree.release
        reporter.warning(f"SchedMD's tests are left out: the archive of {release} has none.")
        return None
    return SourceTests(archive, source.sha256, lines)


def _source(manifest: Manifest, settings: Settings, reporter: Reporter) -> Source:
    """The archive of a release in a catalog, or one that somebody has built from here.

    Raises:
        ConfigurationError: It is neither: anybody may have written the manifest.
    """
    told, release = manifest.source, manifest.identity.release
    for known in (*catalog(), *known_releases(settings, reporter)):
        if known.sha256 == told.sha256:
            return slurm_source(known, debian_mirrors(settings))
    source = Source(f"Slurm {release}", told.sha256, None, (told.url,), archive_extension(told.url))
    if not cached(source, settings.source_cache_dir):
        raise ConfigurationError(
            f"--suite: the source archive of {manifest.identity.stem} is not known here.",
            details=f"No catalog has the checksum {told.sha256}, nor has the source cache.",
            resolution="Fetch it with slurm-factory prefetch --source, or omit --suite.",
        )
    return source


def listed_in(archive: Path) -> dict[str, str]:
    """The listed tests that an archive (host) has.

    Raises:
        OutputError: It cannot be read.
        VerificationError: It is no archive of Slurm.
    """
    places = {}
    for name, line in listed_tests().items():
        python = name.startswith("test_")
        place = f"python/tests/{name}.py" if python else f"expect/{name}"
        places[f"testsuite/{place}"] = name, line
    with file_errors(archive, "read"):
        found = {name.partition("/")[2] for name in _members(archive)}
    return dict(places[place] for place in places if place in found)


def _members(archive: Path) -> Iterator[str]:
    """Names in an archive, which is known (`_source`)."""
    size = 0
    try:
        with tarfile.open(archive) as file:
            for member in file:
                size += member.size
                if size > LARGEST:
                    raise tarfile.ReadError(f"more than {LARGEST} bytes")
                yield member.name.removeprefix("./")
    except (tarfile.TarError, EOFError) as error:
        raise VerificationError(f"{archive} is no source archive.", details=str(error)) from error


def configure_options(manifest: Manifest) -> tuple[str, ...]:
    """Options of configure for a plain Slurm with the features of a package.

    Those that need more than the packages of the suite's instance, such as GPUs, are left out.
    """
    installed = set(resources.verify_file(PACKAGES).split())
    options: list[str] = []
    for feature in table():
        at_hand = set(feature.packages) <= installed and not feature.sources
        options += feature.on if feature.name in manifest.features and at_hand else feature.off
    return tuple(options)


def parse_outcomes(output: str, names: Sequence[str]) -> dict[str, Outcome]:
    """The last outcome of each test in the output of run-suite.py; all else is ignored."""
    found: dict[str, Outcome] = {}
    for line in output.splitlines():
        try:
            outcome = Outcome.model_validate_json(line)
        except ValidationError:
            continue
        if outcome.name in names:
            found[outcome.name] = outcome
    return found


def results_of(found: Mapping[str, Outcome], names: Iterable[str]) -> dict[str, Result]:
    """The result of each test; one without an outcome has failed."""
    return {name: found[name].result if name in found else "failed" for name in names}


def install_tests(machine: Machine, tests: SourceTests, reporter: Reporter) -> None:
    """Install what a build of Slurm and the tests need.

    Args:
        machine: A clean machine that reaches the distribution's archive.
        tests: What `find_tests` has found.
        reporter: Shows progress.

    Raises:
        LXDError: The instance was stopped or deleted.
        ScriptError: A package could not be installed.
    """
    with reporter.step("Prepare SchedMD's tests"):
        whole = (resources.verify_file("lib.sh"), resources.verify_file("suite-cluster.sh"))
        machine.run(
            "suite-prepare.sh",
            DIRECTORY,
            PACKAGES=" ".join(resources.verify_file(PACKAGES).split()),
            CLUSTER="".join(whole),
            RUNNER=resources.verify_file("run-suite.py"),
            TESTS="".join(f"{line}\n" for line in tests.lines.values()),
        )


def try_suite(
    opened: Opened,
    tests: SourceTests,
    machine: Machine,
    distro: Distro,
    reporter: Reporter,
    on_logs: Callable[[str, str], None],
) -> Suite:
    """Build plain Slurm, and run the tests with it and with the package, one after the other.

    Args:
        opened: The package, which has a manifest.
        tests: What `find_tests` has found.
        machine: A machine with the tests (`install_tests`).
        distro: Its distribution, on which the package was built.
        reporter: Shows progress.
        on_logs: Called with a name and the logs of tests that failed.

    Raises:
        LXDError: The instance was stopped or deleted.
        ScriptError: Plain Slurm cannot be built or does not start.
        VerificationError: It fails so many tests that nothing could be said of the package.
    """
    began = time.monotonic()
    bench = _Bench(machine, opened.tree, tests, reporter, on_logs)
    manifest = require_manifest(opened.package)
    # No blank in it: the suite does not quote the paths of commands.
    tree = PurePosixPath(f"/srv/{secrets.token_hex(4)}/software")
    with reporter.step("Build plain Slurm"):
        bench.build(configure_options(manifest))
        bench.unpack(opened, tree)
    with reporter.step("SchedMD's tests with plain Slurm"):
        plain = bench.run(PLAIN, "plain", trusted=True)
        bench.cluster("end")
    passed = list(plain.values()).count("passed")
    if passed < LEAST_SHARE * len(plain):
        raise VerificationError(
            f"Plain Slurm passes only {passed} of {len(plain)} of SchedMD's tests.",
            details="The cluster of the tests does not work, and nothing is known of the package.",
            resolution=f"Look at the logs in {reporter.log_path}; docs/verification.md.",
        )
    with reporter.step("SchedMD's tests with the package"):
        package = bench.run(tree, "package")
    return Suite(
        distro=distro.name,
        source=tests.sha256,
        seconds=round(time.monotonic() - began, 1),
        plain=plain,
        package=package,
    )


@dataclass(frozen=True)
class _Bench:
    """The machine with the tests."""

    machine: Machine
    tree: Tree
    tests: SourceTests
    reporter: Reporter
    on_logs: Callable[[str, str], None]

    def build(self, options: Sequence[str]) -> None:
        """Build plain Slurm."""
        archive = UNPACKED / "source"
        self.machine.push(self.tests.archive, archive)
        self.machine.run("suite-build.sh", archive, SOURCE, PLAIN, *options)

    def unpack(self, opened: Opened, tree: PurePosixPath) -> None:
        """Unpack the package."""
        self.machine.push(opened.package.software, SOFTWARE)
        self.machine.run("unpack.sh", SOFTWARE, tree.parent)
        if opened.tree.top != tree.name:
            self.machine.run("move.sh", tree.parent / opened.tree.top, tree)
        # test14.5 expects a time of day from ls -l, which old files do not have.
        self.machine.run_text("touch", 'touch -d "-2 days" "$1"', tree / "bin/sbcast")

    def cluster(self, *words: object) -> None:
        """Start or stop the cluster."""
        plugin = no_cgroups(self.tree.series)
        self.machine.run("suite-cluster.sh", *words, CGROUP_PLUGIN=plugin)

    def run(self, tree: PurePosixPath, name: str, *, trusted: bool = False) -> dict[str, Result]:
        """Run the tests with one Slurm; those without an outcome have failed."""
        logs = DIRECTORY / f"logs-{name}"
        command = ("python3", DIRECTORY / "run-suite.py", tree, DIRECTORY, logs)
        patient = replace(self.machine, seconds=SECONDS)
        try:
            self.cluster("begin", tree)
            output = patient.execute("run-suite.py", [str(word) for word in command], {})
        except ScriptError as error:
            self.keep(f"suite-{name}-daemons", "logs.sh", DAEMON_LINES)
            if trusted:
                raise
            self.reporter.warning(f"SchedMD's tests with the package: {error.details}")
            output = error.output
        found = parse_outcomes(output, tuple(self.tests.lines))
        for outcome in found.values():
            self.reporter.line(_line(outcome))
        results = results_of(found, self.tests.lines)
        if failed := [each for each, result in results.items() if result == "failed"]:
            self.keep(f"suite-{name}", "suite-logs.sh", LOG_BYTES, logs, *failed[:LOGS_KEPT])
        return results

    def keep(self, name: str, script: str, *arguments: object) -> None:
        """Keep what a script prints."""
        try:
            text = self.machine.run(script, *arguments)
        except ScriptError as error:
            text = f"{error}\n"
        self.on_logs(name, text)


def _line(outcome: Outcome) -> str:
    notes = "; ".join(filter(None, (outcome.reason, outcome.repaired)))
    return f"{outcome.name} {outcome.result}, {outcome.seconds:.1f} s: {notes}".removesuffix(": ")
