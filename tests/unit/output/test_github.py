"""What a job of GitHub Actions gets from a build: its summary and the outputs of its step."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from package_samples import IDENTITY, stage
from runner_files import parsed
from typer.testing import CliRunner

from slurm_factory import answers
from slurm_factory import main as command_line
from slurm_factory.exceptions import BuildError, OutputError
from slurm_factory.output import github
from slurm_factory.output.reporter import Reporter, make_reporter
from slurm_factory.package.manifest import SpackBuild, SpackPackage, load_manifest
from slurm_factory.package.publish import publish
from slurm_factory.up_to_date import Outcome


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(path))
    return path


@pytest.fixture
def built(tmp_path: Path) -> Outcome:
    path = publish(stage(tmp_path / "staged"), tmp_path / "builds/24.11")
    return Outcome(path, load_manifest(path), up_to_date=False)


def reporter_with(*names: str) -> Reporter:
    """A reporter, each of whose steps but the first is inside the one before."""
    reporter = make_reporter(stream=io.StringIO(), environment={})
    if names:
        first, *others = names
        with reporter.step(first):
            for name in others:
                with reporter.step(name):
                    pass
    return reporter


def test_a_build_sets_the_outputs_of_its_step(built: Outcome, output: Path) -> None:
    answers.print_outcome(built, reporter_with(), as_json=False)
    directory = built.manifest_path.parent
    assert parsed(output.read_text()) == {
        "stem": IDENTITY.stem,
        "release": "24.11.5",
        "glibc": "2.36",
        "up-to-date": "false",
        "directory": str(directory),
        "software": str(directory / IDENTITY.software_tarball),
        "module": str(directory / IDENTITY.module_tarball),
        "manifest": str(built.manifest_path),
        "sbom": "",
        "provenance": "",
        "sha256": str(directory / IDENTITY.checksums),
    }


def test_a_build_that_is_up_to_date_sets_its_outputs_too(built: Outcome, output: Path) -> None:
    answers.print_outcome(replace(built, up_to_date=True), reporter_with(), as_json=True)
    assert parsed(output.read_text())["up-to-date"] == "true"


@pytest.mark.parametrize("value", ["a=b", "a<<b", "one\ntwo", "x\r\ny=z", "\nend\n", "ü 100%"])
def test_an_output_arrives_whatever_it_holds(value: str, output: Path) -> None:
    github.set_outputs({"before": "1", "value": value, "after": "2"})
    with output.open(newline="", encoding="utf-8") as file:
        assert parsed(file.read()) == {"before": "1", "value": value, "after": "2"}


def test_an_output_that_is_lost_is_an_error(
    built: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", "/dev/full")
    with pytest.raises(OutputError, match="GITHUB_OUTPUT cannot be written"):
        answers.print_outcome(built, reporter_with(), as_json=False)


def test_outside_a_workflow_nothing_is_written(built: Outcome, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    answers.print_outcome(built, reporter_with(), as_json=False)
    assert set(tmp_path.rglob("*")) == before


def test_each_build_has_a_section_of_its_own(built: Outcome, summary: Path) -> None:
    for up_to_date in (False, True):
        outcome = replace(built, up_to_date=up_to_date)
        answers.print_outcome(outcome, reporter_with("Build", "make"), as_json=False)
    text = summary.read_text()
    headings = [n for n, line in enumerate(text.split("\n")) if line.startswith("### ")]
    lines = text.split("\n")
    assert [lines[n] for n in headings] == [f"### {IDENTITY.stem}"] * 2
    assert all(not lines[n - 1] and not lines[n + 1] for n in headings)
    assert "is up to date" not in "\n".join(lines[: headings[1]])
    assert "is up to date" in "\n".join(lines[headings[1] :])
    for file in built.manifest.files:
        assert f"| {file.name} | " in text
        assert f"`{file.sha256}`" in text
    assert "Needs glibc 2.36 or newer: Debian 12" in text
    assert f"Manifest: {github.plain(str(built.manifest_path))}" in text
    steps = "| Build | 0.0 s | done |\n| &nbsp;&nbsp;make | 0.0 s | done |\n"
    assert f"\n\n| Step | Time | |\n| --- | ---: | --- |\n{steps}" in text


def test_a_failure_has_its_reason_in_the_summary(summary: Path) -> None:
    error = BuildError("make failed.", details="</pre> | https://u:p@h\x1b[2J", resolution="Do.")
    answers.summarize_failure("slurm-25.05", error, reporter_with("Configure"))
    text = summary.read_text()
    assert "### slurm-25.05: failed\n" in text
    assert "<pre>make failed.\n&lt;/pre&gt; | https://***@h\\x1b[2J\nDo.</pre>\n\n| Step " in text


def test_every_failure_of_a_command_reaches_the_summary(
    summary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BuildError("make failed.")

    monkeypatch.setattr("slurm_factory.up_to_date.find_up_to_date", fail)
    plan = ["--base", "debian@12", "--deps", "system", "--slurm-version"]
    CliRunner().invoke(command_line.app, ["build", *plan, "24.11"])
    CliRunner().invoke(command_line.app, ["build", *plan, "1"])
    text = summary.read_text()
    assert f"### {IDENTITY.stem}: failed\n\n<pre>make failed.</pre>\n" in text
    assert "### slurm-factory: failed\n\n<pre>" in text


def test_a_summary_that_cannot_be_written_is_a_warning_and_no_failure(
    built: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/dev/full")
    stream = io.StringIO()
    reporter = make_reporter(stream=stream, environment={})
    answers.print_outcome(built, reporter, as_json=False)
    answers.summarize_failure("slurm-25.05", BuildError("make failed."), reporter)
    assert stream.getvalue().count("Warning: GITHUB_STEP_SUMMARY cannot be written") == 2


def test_names_cannot_break_a_table_of_the_summary(built: Outcome, summary: Path) -> None:
    reporter = reporter_with("make | [red](x) <all> `*_\\|")
    answers.print_outcome(built, reporter, as_json=False)
    (row,) = [line for line in summary.read_text().split("\n") if line.startswith("| make")]
    assert row.count("|") == 4
    assert not re.search(r"[<>`*_\\\[\]]", row)


def spack_build(count: int) -> SpackBuild:
    packages = tuple(
        SpackPackage(
            name=f"p{n}", version="1", hash="h", run_time=True, cached=n % 2 == 0, seconds=float(n)
        )
        for n in range(count)
    )
    return SpackBuild(
        concretized=True, packages=packages, compiler_cache_hits=3, compiler_cache_misses=1
    )


def test_a_build_by_spack_shows_the_slowest_packages_and_what_the_caches_gave(
    built: Outcome, summary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = built.manifest.model_copy(update={"spack": spack_build(12)})
    answers.print_outcome(replace(built, manifest=manifest), reporter_with(), as_json=False)
    told = capsys.readouterr().out
    for text in (told, summary.read_text()):
        assert "6 of 12 packages from the build cache (50%), 3 of 4 compilations" in text
        assert "p11@1" in text
        assert "p1@1" not in text
    answers.print_outcome(
        replace(built, manifest=manifest, up_to_date=True), reporter_with(), as_json=False
    )
    assert "p11@1" not in capsys.readouterr().out


@pytest.mark.parametrize("width", [10, 40, 80, 120, 300])
def test_results_keep_whole_checksums_on_any_terminal(
    width: int,
    built: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(answers, "terminal_width", lambda: width)
    answers.print_outcome(built, reporter_with("Build"), as_json=False)
    told = capsys.readouterr().out
    for file in built.manifest.files:
        assert file.sha256 in told
        assert file.name in told
    assert ("File and SHA-256" in told) == (width <= 120)
