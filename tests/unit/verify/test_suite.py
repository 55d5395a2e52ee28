"""The package is compared with plain Slurm, and nothing that an instance says makes it better."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from package_samples import SOURCE, make_manifest
from reporter_samples import Listener

from slurm_factory.answers import print_verdict
from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError, VerificationError
from slurm_factory.fetch.sources import Source
from slurm_factory.instances.machine import Machine, ScriptError
from slurm_factory.package.manifest import File, Manifest
from slurm_factory.package.tree import Tree
from slurm_factory.package.verification import Check, Suite, Verification
from slurm_factory.plan.bases import find_distro
from slurm_factory.verify.package import Package
from slurm_factory.verify.static import Opened
from slurm_factory.verify.suite import (
    NEEDED,
    PLAIN,
    SourceTests,
    configure_options,
    find_tests,
    listed_in,
    listed_tests,
    parse_outcomes,
    require_manifest,
    results_of,
    try_suite,
)
from slurm_factory.verify.verify import Verdict, VerifyRequest, failure, verify

FILES = (File(name="slurm-24.11-software.tar.gz", size=1, sha256="a" * 64),)
DEBIAN = find_distro("debian@12")
PLACES = ("expect/test1.1", "expect/test1.2", "python/tests/test_101_1.py")
NAMES = ("test_101_1", "test1.1", "test1.2")


def said(name: str, result: str = "passed", **more: object) -> str:
    return json.dumps({"name": name, "result": result, "seconds": 0.5, **more})


def archive(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            file.addfile(tarfile.TarInfo(f"slurm-slurm-24-11-5-1/{name}"), io.BytesIO())
    return path


def with_tests(path: Path) -> Path:
    return archive(path, "configure", *(f"testsuite/{place}" for place in PLACES))


def manifest_of(source: Path) -> Manifest:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    told = SOURCE.model_copy(update={"url": source.as_uri(), "sha256": digest})
    return make_manifest(FILES).model_copy(update={"source": told})


def keep_in_cache(source: Path, settings: Settings) -> None:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    known = Source("Slurm", digest, None, (), ".tar.gz")
    path = settings.source_cache_dir / known.stored_as
    path.parent.mkdir(parents=True)
    path.write_bytes(source.read_bytes())


def opened(tmp_path: Path, manifest: Manifest | None, plugins: Sequence[str] = NEEDED) -> Opened:
    for plugin in plugins:
        path = tmp_path / f"software/lib/slurm/{plugin}.so"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    tree = Tree(tmp_path / "software", "software", "24.11.5", x11=True)
    package = Package("slurm-24.11", tmp_path / "software.tar.gz", manifest=manifest)
    return Opened(package, tree, None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


def test_list_names_each_test_once() -> None:
    lines = listed_tests()
    assert len(lines) == 362
    assert len(set(lines.values())) == 362
    assert lines["test_112_1"] == 'test_112_1@alice -k "not invalid_input"'


def test_tests_that_an_older_release_lacks_are_left_out(tmp_path: Path) -> None:
    found = listed_in(with_tests(tmp_path / "slurm.tar.gz"))
    assert tuple(found) == NAMES
    assert found["test1.1"] == "test1.1"


def test_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slurm.tar.gz").write_bytes(b"<html>")
    with pytest.raises(VerificationError, match="is no source archive"):
        listed_in(tmp_path / "slurm.tar.gz")


def test_archive_without_a_suite_is_no_failure(tmp_path: Path, settings: Settings) -> None:
    source = archive(tmp_path / "slurm.tar.gz", "testsuite/README", "testsuite/slurm_unit/a.c")
    keep_in_cache(source, settings)
    reporter = Listener()
    assert find_tests(opened(tmp_path, manifest_of(source)), settings, reporter) is None
    assert reporter.warnings == ["SchedMD's tests are left out: the archive of 24.11.5 has none."]


def test_package_without_accounting_is_no_failure(tmp_path: Path, settings: Settings) -> None:
    minimal = opened(tmp_path, make_manifest(FILES), ["auth_munge"])
    reporter = Listener()
    assert find_tests(minimal, settings, reporter) is None
    assert "has no accounting_storage_mysql, auth_jwt." in reporter.warnings[0]


def test_tests_come_from_the_archive_that_the_manifest_names(
    tmp_path: Path, settings: Settings
) -> None:
    source = with_tests(tmp_path / "slurm.tar.gz")
    keep_in_cache(source, settings)
    manifest = manifest_of(source)
    found = find_tests(opened(tmp_path, manifest), settings, Listener())
    assert found is not None
    assert tuple(found.lines) == NAMES
    assert found.sha256 == manifest.source.sha256


def test_archive_that_only_the_manifest_knows_is_not_fetched(
    tmp_path: Path, settings: Settings
) -> None:
    manifest = manifest_of(with_tests(tmp_path / "slurm.tar.gz"))
    with pytest.raises(ConfigurationError, match="is not known here"):
        find_tests(opened(tmp_path, manifest), settings, Listener())


def test_package_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no manifest"):
        require_manifest(opened(tmp_path, None).package)


def test_plain_slurm_has_the_features_of_the_package() -> None:
    manifest = make_manifest(FILES).model_copy(
        update={"features": ("munge", "restd", "nvml", "lua")}
    )
    options = configure_options(manifest)
    assert {"--with-munge", "--enable-slurmrestd", "--with-lua"} <= set(options)
    assert {"--without-nvml", "--disable-pam", "--without-pmix"} <= set(options)
    assert not any("{" in option for option in options)


HOSTILE = (
    "",
    "null",
    "[]",
    "{",
    "[" * 100_000,
    said("test1.1", "excellent"),
    said("test1.1", seconds=-1.0),
    said("test1.1", reason="x" * 500),
    '{"name": "test1.1", "result": "passed", "seconds": NaN}',
    '{"name": "test1.1", "result": "passed", "seconds": "1"}',
    '{"name": ["test1.1"], "result": "passed", "seconds": 1.0}',
    '{"name": "test1.1", "result": "passed"}',
    "\ud800".encode("utf-8", "replace").decode(),
    "test1.1 passed",
)


@pytest.mark.parametrize("line", HOSTILE)
def test_line_that_is_no_outcome_is_ignored(line: str) -> None:
    assert parse_outcomes(f"{line}\n{said('test1.2')}\n", NAMES).keys() == {"test1.2"}


def test_unknown_tests_are_ignored_and_missing_ones_have_failed() -> None:
    found = parse_outcomes(f"{said('test9.9')}\n{said('test1.2', 'skipped')}\n", NAMES)
    assert results_of(found, NAMES) == {
        "test_101_1": "failed",
        "test1.1": "failed",
        "test1.2": "skipped",
    }


def test_last_attempt_counts() -> None:
    lines = [said("test1.1", "failed"), said("test1.2"), said("test1.1")]
    assert results_of(parse_outcomes("\n".join(lines), NAMES), NAMES)["test1.1"] == "passed"


@dataclass(frozen=True)
class Instance(Machine):
    """Says what a test gives it: the output of the tests by the prefix of Slurm, or an error."""

    outputs: Mapping[str, str | ScriptError] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def run_text(self, title: str, text: str, *arguments: object, **variables: str) -> str:
        self.ran.append(" ".join(map(str, (title, *arguments))))
        return f"output of {title}"

    def push(self, path: Path, destination: object) -> None:
        pass

    def execute(self, title: str, words: Sequence[str], variables: Mapping[str, str]) -> str:
        assert self.seconds > Machine().seconds
        answer = self.outputs["plain" if words[2] == str(PLAIN) else "package"]
        if isinstance(answer, ScriptError):
            raise answer
        return answer


GOOD = "\n".join(map(said, NAMES))


def tried(
    tmp_path: Path, reporter: Listener, **outputs: str | ScriptError
) -> tuple[Suite, dict[str, str]]:
    source = with_tests(tmp_path / "slurm.tar.gz")
    manifest = manifest_of(source)
    tests = SourceTests(source, manifest.source.sha256, listed_in(source))
    logs: dict[str, str] = {}
    machine = replace(Instance(), outputs=outputs)
    subject = opened(tmp_path, manifest)
    return try_suite(subject, tests, machine, DEBIAN, reporter, logs.__setitem__), logs


def test_package_that_passes_what_plain_slurm_passes_is_not_worse(tmp_path: Path) -> None:
    reporter = Listener()
    suite, logs = tried(tmp_path, reporter, plain=GOOD, package=GOOD)
    assert suite.worse == ()
    assert logs == {}
    assert "test1.1 passed, 0.5 s" in reporter.lines
    assert [step.name for step in reporter.steps] == [
        "Build plain Slurm",
        "SchedMD's tests with plain Slurm",
        "SchedMD's tests with the package",
    ]


def test_test_that_only_the_package_fails_is_named_and_its_log_is_kept(tmp_path: Path) -> None:
    bad = f"{GOOD}\n{said('test1.2', 'failed', reason='no such plugin')}"
    suite, logs = tried(tmp_path, Listener(), plain=GOOD, package=bad)
    assert suite.worse == ("test1.2",)
    assert logs == {"suite-package": "output of suite-logs.sh"}


def test_package_whose_cluster_breaks_down_fails_the_rest(tmp_path: Path) -> None:
    late = ScriptError("run-suite.py", "It did not end in time.", said("test_101_1"))
    reporter = Listener()
    suite, logs = tried(tmp_path, reporter, plain=GOOD, package=late)
    assert suite.worse == ("test1.1", "test1.2")
    assert set(logs) == {"suite-package", "suite-package-daemons"}
    assert len(reporter.warnings) == 1


def test_plain_slurm_that_fails_says_nothing_about_the_package(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="Plain Slurm passes only 1 of 3"):
        tried(tmp_path, Listener(), plain=said("test1.1"), package=GOOD)
    broken = ScriptError("run-suite.py", "Exit status 1.", GOOD)
    with pytest.raises(ScriptError):
        tried(tmp_path, Listener(), plain=broken, package=GOOD)


def verdict(suite: Suite) -> Verdict:
    verification = Verification(
        stem="slurm-24.11",
        release="24.11.5",
        created=datetime(2026, 11, 28, tzinfo=UTC),
        slurm_factory="0.1.0",
        software=FILES[0],
        glibc="2.36",
        static=(Check(name="archive", result="passed", seconds=1.0),),
        suite=suite,
    )
    return Verdict(verification, (), None, None, Path("/logs/build.log"), static=True)


def test_error_and_answer_name_tests_that_only_the_package_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = f"{GOOD}\n{said('test1.2', 'failed')}"
    worse = verdict(tried(tmp_path, Listener(), plain=GOOD, package=bad)[0])
    error = failure(worse)
    assert error is not None
    assert error.exit_code == 6
    assert error.details == "test1.2"
    print_verdict(worse, as_json=False)
    line = "SchedMD's tests: 3, plain passes 3, the package passes 2; plain only: test1.2."
    assert line in capsys.readouterr().out


def test_package_that_is_as_good_as_plain_slurm_is_no_error(tmp_path: Path) -> None:
    assert failure(verdict(tried(tmp_path, Listener(), plain=GOOD, package=GOOD)[0])) is None


def test_tests_need_an_instance_and_a_manifest(tmp_path: Path, settings: Settings) -> None:
    package = opened(tmp_path, make_manifest(FILES)).package
    with pytest.raises(ConfigurationError, match="exclude each other"):
        verify(VerifyRequest(package, suite=True, here=True), settings, Listener())
    with pytest.raises(ConfigurationError, match="has no manifest"):
        verify(VerifyRequest(replace(package, manifest=None), suite=True), settings, Listener())
