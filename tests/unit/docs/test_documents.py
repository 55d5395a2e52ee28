"""docs/json.md names the fields that the JSON documents have."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import documents
import pytest
from package_samples import stage
from plan_samples import sample_plan, sample_settings, spack_plan
from reporter_samples import Listener
from typer.core import TyperGroup
from typer.main import get_command

from slurm_factory import answers, farm_answers, resources
from slurm_factory.ci_cache import CiCache
from slurm_factory.clean import CleanPlan, Removal
from slurm_factory.compare import Lookup, compare
from slurm_factory.config import Effective, EffectiveSettings
from slurm_factory.exceptions import ConfigurationError, DownloadError
from slurm_factory.farm.cells import Cell
from slurm_factory.farm.children import Result, State
from slurm_factory.farm.matrix import CellResult, MatrixResult, PlannedCell
from slurm_factory.findings import report
from slurm_factory.host.checks import Check, Status
from slurm_factory.host.setup import SetupResult
from slurm_factory.host.setup_steps import SetupStep
from slurm_factory.main import app
from slurm_factory.package.manifest import File, load_manifest
from slurm_factory.package.publish import describe, find_artifacts
from slurm_factory.package.signatures import Trust, standings
from slurm_factory.package.verification import Verification
from slurm_factory.plan.releases import catalog
from slurm_factory.prefetch import Failure, Prefetched
from slurm_factory.reproduce.causes import Cause, Kind
from slurm_factory.reproduce.differences import What
from slurm_factory.reproduce.reproduce import ComparedFile, Found, Reproduction
from slurm_factory.request import BuildOptions
from slurm_factory.stores.fetch import Fetched
from slurm_factory.stores.index import Index, StoredPackage, describe_package
from slurm_factory.stores.publish import Published
from slurm_factory.up_to_date import Outcome
from slurm_factory.verify.verify import Verdict

NOW = datetime(2026, 11, 28, tzinfo=UTC)
DESCRIBED: dict[str, dict[str, Any]] = {
    document["command"]: document for document in documents.texts()["document"]
}
OF_A_RECIPE = {"configure", "roots", "spack"}
"""Fields of a plan that depend on the recipe."""
RECORDS = {documents.title(cls): cls for cls in documents.ANSWERS}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A finished package."""
    return stage(tmp_path / "builds" / "24.11")


Show = Callable[[Path], None]


def show_build(path: Path) -> None:
    answers.print_outcome(
        Outcome(path, load_manifest(path), up_to_date=True), Listener(), as_json=True
    )


def show_reports(path: Path) -> None:
    settings = sample_settings(path.parents[2])
    reports = report(find_artifacts(path.parents[1]), settings, Listener(), look_up=False)
    answers.print_reports(reports, standings([path], Trust()), NOW, as_json=True)


def show_verdict(path: Path) -> None:
    manifest = load_manifest(path)
    found = Verification(
        stem=manifest.identity.stem,
        release="24.11.5",
        created=NOW,
        slurm_factory="0.1.0",
        software=manifest.files[0],
        glibc="2.36",
        static=(),
    )
    answers.print_verdict(
        Verdict(found, ("Debian 12",), path, None, path, static=True), as_json=True
    )


def show_prefetched(path: Path) -> None:
    failure = Failure("Slurm 24.11.5", DownloadError("It could not be fetched."))
    prefetched = Prefetched(path.parent, (path,), (failure,))
    answers.print_prefetched(prefetched, [sample_plan()], as_json=True)


def show_setup(_: Path) -> None:
    steps = (SetupStep("daemon", needed=False, why="answers"),)
    result = SetupResult(steps, ready=True, login_needed=False, notes=(), log=None)
    answers.print_setup(result, check=True, as_json=True)


def show_comparison(path: Path) -> None:
    package = (str(path), str(path))
    found = compare(package, sample_settings(path.parents[2]), Listener(), Lookup())
    answers.print_comparison(found, as_json=True)


def stored(path: Path) -> StoredPackage:
    manifest = load_manifest(path)
    written = File.of(describe(path))
    return describe_package(manifest, written, manifest.files, published=NOW)


def show_published(path: Path) -> None:
    packages = (stored(path),)
    published = Published(packages, packages, packages, packages)
    answers.print_published(published, "s3://x", as_json=True)


def show_fetched(path: Path) -> None:
    fetched = Fetched(stored(path), path, load_manifest(path), up_to_date=True)
    answers.print_fetched(fetched, "s3://x", as_json=True)


def show_settings(_: Path) -> None:
    wrong = Effective("jobs", "x", "file", "", ConfigurationError("It is wrong."))
    found = EffectiveSettings((wrong,), (ConfigurationError("An unknown key."),))
    answers.print_settings(found, Path("/config.toml"), as_json=True)


CACHE = CiCache("key", ("restore",), (Path("/cache"),))


def show_reproduction(path: Path) -> None:
    difference = Found("software/bin/srun", What.CONTENT, "first at byte 5 of 6", explained=False)
    file = ComparedFile("x.tar.gz", False, "0" * 64, "1" * 64, "", 7, (difference,))
    cause = Cause(Kind.BASE, "libssl3:amd64", "3.0.20-1", "3.0.21-1")
    answers.print_reproduction(
        Reproduction("slurm-24.11", path, False, 1.5, (cause,), (file,), log=path), as_json=True
    )


def planned_cell() -> PlannedCell:
    plan = sample_plan()
    return PlannedCell(Cell(BuildOptions(plan.requested), plan), None, 1.0)


def show_matrix(path: Path) -> None:
    cells = (CellResult(planned_cell(), Result(State.FAILED, 5, error={}), "slurm-factory build"),)
    result = MatrixResult(path.parent, 1.0, 2, 2, cells)
    farm_answers.print_matrix(result, Listener(), as_json=True)


SHOWN: dict[str, Show] = {
    "matrix --json": show_matrix,
    "matrix --dry-run --json": lambda _: farm_answers.print_cells([planned_cell()], as_json=True),
    "build --json": show_build,
    "build --dry-run --json": lambda _: answers.print_plan(sample_plan(), cache=CACHE),
    "list --json": lambda path: answers.print_builds(
        find_artifacts(path.parents[1]), standings([path], Trust()), as_json=True
    ),
    "publish --json": show_published,
    "fetch --json": show_fetched,
    "fetch --list --json": lambda path: answers.print_store(
        Index(packages=(stored(path),)), "s3://x", as_json=True
    ),
    "show --json": show_reports,
    "versions --json": lambda _: answers.print_versions(
        catalog(), NOW.date(), new=catalog()[:1], as_json=True
    ),
    "prefetch --json": show_prefetched,
    "verify --json": show_verdict,
    "reproduce --json": show_reproduction,
    "setup --json": show_setup,
    "doctor --json": lambda _: answers.print_checks(
        [Check("lxd-running", Status.OK, "the daemon runs")], as_json=True
    ),
    "show --compare --json": show_comparison,
    "settings --json": show_settings,
    "clean --json": lambda _: answers.print_cleaned(
        CleanPlan((Removal("stage", "/x", 1),), ()), dry_run=True
    ),
}


def test_every_command_with_a_document_is_described() -> None:
    assert {name for name in DESCRIBED if not name.startswith("deploy ")} == SHOWN.keys()
    group = cast("TyperGroup", get_command(app))
    with_document = {
        name
        for name, command in group.commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert {command.split()[0] for command in DESCRIBED} == with_document


def steps_of(name: str) -> list[str]:
    """Such as `builds`, `[]`, `state`."""
    return re.findall(r"\[\]|\w+", name)


def value_at(document: Any, steps: list[str]) -> Any:
    for step in steps:
        document = document[0] if step == "[]" else document[step]
    return document


@pytest.mark.parametrize("command", SHOWN)
def test_described_fields_are_those_of_the_document(
    command: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SHOWN[command](manifest)
    document = json.loads(capsys.readouterr().out)
    assert document.pop("version") == 1
    described = DESCRIBED[command]
    names = [row[0] for row in described.get("fields", ())]
    if "record" in described:
        names += documents.fields_of(RECORDS[described["record"]])
    below: dict[tuple[str, ...], set[str]] = {(): set()}
    whole = {tuple(steps_of(row[0])) for row in described.get("fields", ()) if "](#" in row[1]}
    for name in names:
        steps = steps_of(name)
        for place, step in enumerate(steps):
            below.setdefault(tuple(steps[:place]), set()).add(step)
    for path, children in below.items():
        value = value_at(document, list(path))
        if isinstance(value, list) or path in whole:
            assert all(value_at(value, [child]) is not ... for child in children)
        elif command != "prefetch --json" or path != ("failures", "[]"):
            assert value.keys() - OF_A_RECIPE == children - OF_A_RECIPE, path


def test_described_fields_are_those_of_the_script_that_deploys() -> None:
    """It makes its documents itself; tests/unit/deploy looks at their values."""
    script = resources.deploy_script().read_text("utf-8")
    documents_of_it = [line for line in script.splitlines() if "printf '{" in line]
    documents_of_it += [line for line in script.splitlines() if "printf '%s{" in line]
    printed = set(re.findall(r'"(\w+)": ', "".join(documents_of_it)))
    errors = {"error", "exit_code", "brief", "details", "resolution"}
    described = {
        step
        for name, document in DESCRIBED.items()
        if name.startswith("deploy ")
        for row in document["fields"]
        for step in steps_of(row[0])
    }
    assert printed - errors - {"version"} == described - {"[]"}


def test_plan_of_spack_has_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    answers.print_plan(spack_plan(), cache=CACHE)
    plan = json.loads(capsys.readouterr().out)["plan"]
    described = {
        row[0].removeprefix("plan.") for row in DESCRIBED["build --dry-run --json"]["fields"]
    }
    assert plan.keys() <= described


@pytest.mark.parametrize(
    "cls", [*documents.ANSWERS, *documents.MANIFEST, *documents.VERIFICATION], ids=documents.title
)
def test_every_field_of_a_record_has_a_meaning(cls: type) -> None:
    rows = documents.rows_of(cls, documents.texts()["meanings"])
    assert [name.strip("`") for name, _, _ in rows] == list(documents.fields_of(cls))


def test_meaning_of_a_field_that_is_gone_is_seen() -> None:
    classes: dict[str, list[str]] = {}
    for cls in (*documents.ANSWERS, *documents.MANIFEST, *documents.VERIFICATION):
        classes.setdefault(cls.__name__, []).extend(documents.fields_of(cls))
    for name in documents.texts()["meanings"]:
        record, _, field = name.partition(".")
        assert field in classes[record]


def test_field_without_a_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match=r"what Removal\.kind means"):
        documents.rows_of(Removal, {})


def test_record_of_setup_is_what_is_printed() -> None:
    step = SetupStep("daemon", needed=False, why="answers")
    assert asdict(step).keys() == set(documents.fields_of(SetupStep))
