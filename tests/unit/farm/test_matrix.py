"""A matrix as a whole, with a script in place of `slurm-factory build`."""

import json
import os
import platform
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest
from package_samples import stage
from plan_samples import sample_plan, sample_settings, spack_plan
from reporter_samples import Listener
from typer.testing import CliRunner
from typer.testing import Result as Ran

from slurm_factory import farm_answers, resources
from slurm_factory.config import Settings
from slurm_factory.exceptions import InterruptedBuildError, LXDError, OutputError, SlurmFactoryError
from slurm_factory.farm import matrix as farming
from slurm_factory.farm.cells import Axes, Cell, MatrixSpec
from slurm_factory.farm.children import Result, State
from slurm_factory.farm.durations import default_seconds, earlier_builds, expected_seconds
from slurm_factory.farm.engine import Engine
from slurm_factory.farm.matrix import (
    SEVERITY,
    CellResult,
    MatrixRequest,
    MatrixResult,
    PlannedCell,
    plan_matrix,
    run_matrix,
    schedule_of,
    shares_of,
)
from slurm_factory.farm.pool import BASE, PACKAGES
from slurm_factory.farm.room import Machine
from slurm_factory.farm.schedule import Room
from slurm_factory.main import app
from slurm_factory.package.manifest import load_manifest
from slurm_factory.plan.base_setup import write_record
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.request import BuildOptions
from slurm_factory.up_to_date import Outcome
from slurm_factory.workspace import prepare_cache

SPEC = MatrixSpec(Axes(("25.05", "25.11"), ("standard", "minimal"), ("debian@12",), ("system",)))
REQUEST = MatrixRequest(SPEC, parallel=1)
LARGE = Machine(64, 1 << 40)
LIMIT = Room(1 << 30, 1 << 30, 1 << 62, 1 << 40)
VARIABLES = {"PATH": os.environ["PATH"]}
HERE = Engine({platform.machine(): [LARGE]}, LIMIT, VARIABLES)
THERE = Engine(
    {"x86_64": [LARGE, LARGE], "aarch64": [Machine(2, 1 << 40)]},
    LIMIT,
    VARIABLES,
    "farm",
    ("--remote=farm", "--target=@fast"),
)
STAND_IN = """\
#!/bin/sh
echo "$*" >> "$0.called"
case "$*" in
*25.11*--minimal*)
    echo '{"error": {"kind": "SpackError", "exit_code": 5, "brief": "No."}}'
    exit 5
    ;;
esac
echo "a line of the build" >&2
touch "$0.done.$(wc -l < "$0.called")"
echo '{"up_to_date": false, "manifest_path": "/m", "manifest": {"verified": {"on": ["x"]}}}'
"""


@pytest.fixture(autouse=True)
def lxd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farming, "project_exists", lambda _: True)
    monkeypatch.setattr("slurm_factory.instances.orphans.end_killed_builds", lambda *_: None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = sample_settings(tmp_path / "cache")
    prepare_cache(settings)
    return settings


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "stand-in"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def called(program: Path) -> list[str]:
    path = program.with_name("stand-in.called")
    return path.read_text().splitlines() if path.exists() else []


def run(
    settings: Settings, program: Path, request: MatrixRequest = REQUEST, engine: Engine = HERE
) -> tuple[MatrixResult, Listener]:
    with Listener() as reporter:
        planned = plan_matrix(request, engine, settings, reporter)
        return run_matrix(planned, request, engine, settings, reporter, [str(program)]), reporter


def test_cells_are_built_by_commands_of_their_own(settings: Settings, program: Path) -> None:
    result, reporter = run(settings, program)
    states = [each.result.state for each in result.cells]
    assert states == [State.BUILT, State.BUILT, State.BUILT, State.FAILED]
    assert result.exit_code == 5
    assert called(program)[0].startswith("--project-name=slurm-factory build --slurm-version=25.05")
    assert {"--deps=system", "--base=debian@12", "--json"} <= set(called(program)[0].split())
    assert result.cells[0].command.startswith("slurm-factory build --slurm-version=25.05")
    assert result.cells[0].manifest_path == "/m"
    assert result.cells[0].verified
    log = result.cells[0].result.log
    assert log is not None
    assert log.read_text() == "a line of the build\n"
    assert log.parent == result.directory
    assert reporter.notes[0] == "slurm-25.05-debian-12-system begins"


@pytest.mark.parametrize(
    ("change", "word"),
    [({"force": True}, "--force"), ({"verify": True}, "--verify"), ({"strict": True}, "--strict")],
)
def test_options_reach_every_cell(
    settings: Settings, program: Path, change: dict[str, Any], word: str
) -> None:
    run(settings, program, replace(REQUEST, **change))
    assert all(word in line.split() for line in called(program))


@pytest.mark.usefixtures("one_finished")
@pytest.mark.parametrize(("signed", "count"), [(True, 3), (False, 4)])
def test_package_that_the_key_has_not_signed_is_signed(
    settings: Settings, program: Path, monkeypatch: pytest.MonkeyPatch, signed: bool, count: int
) -> None:
    monkeypatch.setattr(farming, "is_signed_with", lambda *_: signed)
    run(settings, program, replace(REQUEST, sign="ABCD"))
    assert len(called(program)) == count
    assert all("--sign=ABCD" in line.split() for line in called(program))


def finished(tmp_path: Path, plan: BuildPlan) -> Outcome:
    path = stage(tmp_path / "staged" / plan.stem)
    return Outcome(path, load_manifest(path), up_to_date=True)


@pytest.fixture
def one_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first cell is up to date."""

    def find(plan: BuildPlan, _: Settings) -> Outcome | None:
        first = plan.stem == "slurm-25.05-debian-12-system"
        return finished(tmp_path, plan) if first else None

    monkeypatch.setattr(farming, "find_up_to_date", find)


@pytest.mark.usefixtures("one_finished")
@pytest.mark.parametrize(
    ("change", "count"), [({}, 3), ({"force": True}, 4), ({"verify": True}, 4)]
)
def test_what_is_up_to_date_is_not_built_again(
    settings: Settings, program: Path, change: dict[str, Any], count: int
) -> None:
    result, _ = run(settings, program, replace(REQUEST, **change))
    assert len(called(program)) == count
    if not change:
        assert result.cells[0].result == Result(State.UP_TO_DATE, attempts=0)
        assert result.cells[0].manifest_path.endswith("-manifest.json")


def test_nothing_to_do_needs_no_lxd(
    settings: Settings, program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(farming, "find_up_to_date", lambda plan, _: finished(tmp_path, plan))
    monkeypatch.setattr(farming, "project_exists", no_lxd)
    result, _ = run(settings, program)
    assert result.exit_code == 0
    assert result.directory is None
    assert called(program) == []


def no_lxd(_: str) -> bool:
    raise LXDError("LXD is not installed.")


def test_nothing_begins_without_lxd(
    settings: Settings, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farming, "project_exists", no_lxd)
    with pytest.raises(LXDError, match="not installed"):
        run(settings, program)
    assert called(program) == []


def test_nothing_begins_where_the_cache_directory_cannot_be_used(
    tmp_path: Path, program: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        run(sample_settings(tmp_path / "file"), program)
    assert called(program) == []


def test_second_matrix_is_refused(settings: Settings, program: Path) -> None:
    lock = filelock.FileLock(settings.cache_dir / farming.LOCK)
    with lock, pytest.raises(LXDError, match="Another matrix runs"):
        run(settings, program)
    assert called(program) == []
    assert run(settings, program)[0].count(State.BUILT) == 3


def test_interrupted_matrix_ends_with_130_and_tells_what_did_not_run(
    settings: Settings, program: Path
) -> None:
    program.write_text('#!/bin/sh\necho x >> "$0.called"\nsleep 30\n')

    def interrupt() -> None:
        while not called(program):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    result, reporter = run(settings, program)
    assert [each.result.state for each in result.cells].count(State.NOT_RUN) == 3
    assert result.exit_code == InterruptedBuildError.exit_code
    assert "Once more kills them" in reporter.warnings[0]


def test_interrupted_matrix_ends_with_130_even_if_what_ran_ends_well(
    settings: Settings, program: Path
) -> None:
    """A build that is about to end when the signal comes ends as it would have."""
    end = """echo '{"up_to_date": false, "manifest_path": "/m"}'; exit 0"""
    program.write_text(
        f'#!/bin/sh\ntrap "{end.replace(chr(34), chr(92) + chr(34))}" TERM\n'
        'echo x >> "$0.called"\nsleep 30 & wait\n'
    )

    def interrupt() -> None:
        while not called(program):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    result, _ = run(settings, program)
    assert (result.count(State.BUILT), result.count(State.NOT_RUN)) == (1, 3)
    assert result.exit_code == InterruptedBuildError.exit_code


def test_long_cells_begin_first(settings: Settings, program: Path) -> None:
    run(settings, program)
    order = ["--minimal" in line for line in called(program)]
    assert order == [False, False, True, True]


# --- what cells share ---------------------------------------------------------------------------


def cell(plan: BuildPlan) -> PlannedCell:
    return PlannedCell(Cell(BuildOptions(plan.requested), plan), None, 1.0)


def begun(
    settings: Settings, todo: Sequence[PlannedCell], *done: PlannedCell, engine: Engine = HERE
) -> list[str]:
    """The cells that can begin at once."""
    division = engine.divide([each.cell.plan.machine for each in todo], 16, None)
    schedule = schedule_of(todo, [*todo, *done], division, engine, settings)
    return [task.name for task in iter(schedule.begin, None)]


def test_cells_of_one_base_wait_for_the_first_until_the_base_is_known(settings: Settings) -> None:
    todo = [cell(sample_plan(name)) for name in ("24.11", "25.05", "25.11")]
    todo += [cell(sample_plan("25.05", base="debian@13"))]
    assert begun(settings, todo) == [todo[0].name, todo[3].name]
    write_record({"base": "debian@12"}, todo[0].cell.plan.setup, settings.images_dir)
    assert len(begun(settings, todo)) == 4


def test_cells_of_spack_share_the_libraries_too(settings: Settings) -> None:
    todo = [cell(spack_plan(name)) for name in ("24.11", "25.05")]
    record = {"base": "debian@12", "externals": {}}
    write_record(record, todo[0].cell.plan.setup, settings.images_dir)
    assert len(begun(settings, todo)) == 1
    # A finished one shows that they are in the build cache.
    done = replace(cell(spack_plan("25.11")), finished=finished(settings.cache_dir, sample_plan()))
    assert len(begun(settings, todo, done)) == 2


def test_cells_of_a_remote_share_no_base_since_each_member_has_its_own(settings: Settings) -> None:
    todo = [cell(sample_plan(name)) for name in ("24.11", "25.05", "25.11")]
    assert len(begun(settings, todo, engine=THERE)) == 3
    todo = [cell(spack_plan(name)) for name in ("24.11", "25.05")]
    assert len(begun(settings, todo, engine=THERE)) == 1


# --- a remote -----------------------------------------------------------------------------------


def test_cells_are_built_on_the_remote_by_commands_without_the_way_there(
    settings: Settings, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LXD_DIR", "/forwarder")
    program.write_text(STAND_IN + 'echo "${LXD_DIR-none}" >> "$0.lxd"\n')
    result, _ = run(settings, program, engine=THERE)
    assert result.cells[0].result.state is State.BUILT
    words = {"--arch=x86_64", "--jobs=64", "--remote=farm", "--target=@fast"}
    assert all(words <= set(line.split()) for line in called(program))
    assert result.jobs == 64
    assert "--remote=farm" in result.cells[0].command
    assert set(program.with_name("stand-in.lxd").read_text().split()) == {"none"}


def test_cells_are_for_the_machines_of_the_remote(settings: Settings) -> None:
    assert THERE.architecture("aarch64") == "aarch64"
    assert THERE.architecture("riscv64") == "x86_64"
    divisions, whole = THERE.divide(["x86_64"] * 3 + ["aarch64"] * 9, None, None)
    assert (divisions["x86_64"].whole.tasks, divisions["aarch64"].whole.tasks) == (3, 2)
    assert (whole.tasks, whole.cores) == (5, 130)
    assert divisions["aarch64"].jobs == 2
    _, whole = THERE.divide(["x86_64"] * 3 + ["aarch64"] * 9, 4, None)
    assert whole.tasks == 4
    _, whole = replace(THERE, limit=replace(LIMIT, cores=3)).divide(["x86_64"], None, None)
    assert whole.cores == 3


def test_libraries_for_another_cpu_or_base_are_others() -> None:
    plan = spack_plan()
    assert plan.spack is not None
    other = replace(plan, spack=replace(plan.spack, target="x86_64_v3"))
    here, there = (shares_of(cell(each).cell) for each in (plan, other))
    assert len(here & there) == 1
    assert all(share.startswith((BASE, PACKAGES)) for share in here)
    assert shares_of(cell(spack_plan(base="debian@13")).cell) & here == set()


# --- durations ----------------------------------------------------------------------------------


def test_durations_come_from_the_same_package_else_from_like_ones(tmp_path: Path) -> None:
    plan = sample_plan("24.11")
    assert expected_seconds(plan, ()) == default_seconds("system", "standard")
    path = stage(tmp_path / "24.11")
    (tmp_path / "24.11" / "slurm-broken-manifest.json").write_text("{")
    earlier = earlier_builds(tmp_path)
    assert [each.stem for each in earlier] == [load_manifest(path).identity.stem]
    like = replace(
        earlier[0], stem="like", kind="standard", deps="system", series="24.11", seconds=7
    )
    other = replace(like, stem="other", series="25.05", seconds=9)
    same = replace(like, stem=plan.stem, seconds=5)
    assert expected_seconds(plan, (like, other, same)) == 5
    assert expected_seconds(plan, (like, other)) == 7
    assert expected_seconds(plan, (other,)) == 9


def test_every_recipe_and_type_has_a_duration_with_its_origin() -> None:
    rows = resources.load_toml("durations.toml")["build"]
    assert {(row["deps"], row["type"]) for row in rows} == {
        (deps, kind) for deps in ("system", "spack") for kind in ("standard", "gpu", "minimal")
    }
    assert all(row["from"] and row["seconds"] > 0 for row in rows)


# --- results ------------------------------------------------------------------------------------


def with_codes(*codes: int) -> MatrixResult:
    plan = cell(sample_plan())
    cells = [CellResult(plan, Result(State.FAILED, code), "") for code in codes]
    return MatrixResult(None, 1.0, 1, 1, tuple(cells))


def test_exit_code_is_the_worst_of_all_cells() -> None:
    assert with_codes(0, 0).exit_code == 0
    assert with_codes(1, 0, 5).exit_code == 5
    assert with_codes(5, 6, 3).exit_code == 3
    assert with_codes(4, 7).exit_code == 7
    known = {each.exit_code for each in SlurmFactoryError.__subclasses__()}
    assert set(SEVERITY) == known | {SlurmFactoryError.exit_code}


def test_table_and_summary_tell_why_a_cell_failed(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    settings: Settings,
    program: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result, reporter = run(settings, program)
    document = farm_answers.print_matrix(result, reporter, as_json=False)
    shown = capsys.readouterr().out
    assert "slurm-25.11-minimal-debian-12-system   failed" in shown
    assert "No." in shown
    assert "4 cells: 3 built, 1 failed" in shown
    assert "| failed |" in summary.read_text()
    assert document["exit_code"] == 5
    farm_answers.print_matrix(result, reporter, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["cells"][3]["error"]["brief"] == "No."


# --- the command --------------------------------------------------------------------------------


def command(*words: str) -> Ran:
    return CliRunner().invoke(app, ["matrix", *words])


def test_dry_run_shows_the_cells_and_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(tmp_path / "none"))
    words = ("--series", "25.05,25.11", "--deps", "system", "--base", "debian@12", "--dry-run")
    ran = command(*words)
    assert (ran.exit_code, "2 cells, 2 to build" in ran.stdout) == (0, True)
    ran = command(*words, "--exclude", "25.11", "--json")
    cells = json.loads(ran.stdout)["cells"]
    assert [each["stem"] for each in cells] == ["slurm-25.05-debian-12-system"]
    assert cells[0]["up_to_date"] is False
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "brief"),
    [
        ((), "The matrix has no cells."),
        (("--series", "25.05", "--type", "x"), "--type: there is no build type 'x'."),
        (("/nonexistent.toml",), "The matrix /nonexistent.toml cannot be used."),
        (("--series", "25.05", "--notify", "'"), '--notify "\'" is no command.'),
        (("--series", "25.05", "--notify", ""), "--notify '' is no command."),
    ],
)
def test_wrong_use_ends_with_2(words: tuple[str, ...], brief: str) -> None:
    ran = command(*words, "--json")
    assert ran.exit_code == 2
    error = json.loads(ran.stdout)["error"]
    assert (error["brief"], error["kind"]) == (brief, "ConfigurationError")


@pytest.mark.parametrize(
    ("setting", "brief"), [("REMOTE", "has no remote"), ("TARGET", "no --remote")]
)
def test_remote_of_the_settings_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, brief: str
) -> None:
    monkeypatch.setenv("LXD_CONF", str(tmp_path))
    monkeypatch.setenv(f"SLURM_FACTORY_{setting}", "nowhere")
    words = ("--series", "25.05", "--deps", "system", "--base", "debian@12", "--json")
    for more in ((), ("--dry-run",)):
        ran = command(*words, *more)
        assert ran.exit_code == 2
        assert brief in json.loads(ran.stdout)["error"]["brief"]


def test_command_runs_the_matrix_and_tells_the_result_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Path
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(farming.run_matrix, "__defaults__", ([str(program)],))
    (tmp_path / "m.toml").write_text('series = "25.05"\ndeps = "system"\nbase = "debian@12"\n')
    told = tmp_path / "told"
    words = (str(tmp_path / "m.toml"), "--notify", f"tee {told}", "--notify", "false")
    ran = command(*words, "--json")
    assert ran.exit_code == 0
    document = json.loads(ran.stdout)
    assert document["cells"][0]["state"] == "built"
    assert json.loads(told.read_text())["cells"] == document["cells"]
    assert "Warning: --notify false: exit code 1" in ran.stderr
