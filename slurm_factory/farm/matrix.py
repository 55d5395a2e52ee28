"""Many builds as one: plan them, run them in a pool, tell how each ended."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import filelock

from slurm_factory.constants import APPLICATION, Deps
from slurm_factory.exceptions import LXDError
from slurm_factory.farm.cells import Cell, MatrixSpec, find_cells
from slurm_factory.farm.children import Child, Result, State
from slurm_factory.farm.durations import earlier_builds, expected_seconds
from slurm_factory.farm.engine import find_engine, free_disk
from slurm_factory.farm.pool import BASE, PACKAGES, Pool, Rules, Watcher
from slurm_factory.farm.schedule import Schedule, Task
from slurm_factory.instances.lxc import project_exists
from slurm_factory.output.records import Outcome, duration
from slurm_factory.package.signatures import is_signed_with
from slurm_factory.plan.base_setup import load_record, record_path
from slurm_factory.request import (
    BuildOptions,
    open_machine,
    plan_request,
    read_catalog,
    read_request,
)
from slurm_factory.up_to_date import Outcome as Finished
from slurm_factory.up_to_date import find_up_to_date
from slurm_factory.workspace import NEEDED_BYTES, new_build_id, prepare_cache

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.farm.engine import Engine
    from slurm_factory.farm.room import Division
    from slurm_factory.farm.schedule import Room
    from slurm_factory.output.reporter import Reporter

NAME: Final = "matrix"
LOCK: Final = ".matrix.lock"
"""In the cache directory: one matrix at a time divides this machine or a remote, and the disk."""
PROGRAM: Final = (sys.executable, "-P", "-m", "slurm_factory")
"""-P: not what lies in the working directory."""
ELECTION_SECONDS: Final = 90.0
"""So long a cluster may not answer, whose members have just lost the one that leads them."""
SEVERITY: Final = (130, 7, 3, 2, 4, 6, 5, 1)
"""Exit codes, the worst first: those that concern all cells before those of one."""
LOG_LINES: Final = 400
"""Of a child's log, for a group in a workflow."""


@dataclass(frozen=True)
class MatrixRequest:
    """What somebody asks for.

    Attributes:
        spec: The cells.
        common: Options of every cell.
        parallel: How many builds run at once; None: by the machine.
        jobs: Parallel compilers of each; None: by the machine.
        force: Build what is up to date, too.
        verify: Verify each package.
        sign: Key that signs each package, which works; empty: none.
        strict: Refuse releases with known advisories.
        fail_fast: Begin no cell after one has failed.
    """

    spec: MatrixSpec
    common: BuildOptions = field(default_factory=BuildOptions)
    parallel: int | None = None
    jobs: int | None = None
    force: bool = False
    verify: bool = False
    sign: str = ""
    strict: bool = False
    fail_fast: bool = False


@dataclass(frozen=True)
class PlannedCell:
    """A cell, what it makes out of date, and how long it will take."""

    cell: Cell
    finished: Finished | None
    seconds: float

    @property
    def name(self) -> str:
        """Name of its package."""
        return self.cell.name


@dataclass(frozen=True)
class CellResult:
    """A cell and how it ended."""

    planned: PlannedCell
    result: Result
    command: str

    @property
    def manifest_path(self) -> str:
        """Manifest of its package (host); empty: it has none."""
        if self.result.document:
            return str(self.result.document.get("manifest_path") or "")
        finished = self.planned.finished
        return str(finished.manifest_path) if finished else ""

    @property
    def verified(self) -> bool:
        """Whether its package has been verified."""
        if self.result.document:
            return bool((self.result.document.get("manifest") or {}).get("verified"))
        return bool(self.planned.finished and self.planned.finished.manifest.verified)


@dataclass(frozen=True)
class MatrixResult:
    """How a matrix ended.

    Attributes:
        directory: Logs of its cells (host); None: there was nothing to do.
        seconds: How long it ran.
        at_once: How many builds ran at once, at most.
        jobs: Parallel compilers of each, at most.
        cells: The cells, in the order of the request.
    """

    directory: Path | None
    seconds: float
    at_once: int
    jobs: int
    cells: tuple[CellResult, ...]

    @property
    def exit_code(self) -> int:
        """The worst one of all cells."""
        codes = {each.result.exit_code or _code_of(each.result) for each in self.cells}
        return next((code for code in SEVERITY if code in codes), max(codes, default=0))

    def count(self, state: State) -> int:
        """Number of cells that ended so."""
        return sum(each.result.state is state for each in self.cells)


def _code_of(result: Result) -> int:
    return int((result.error or {}).get("exit_code", 0)) if result.state is State.NOT_RUN else 0


@contextmanager
def open_engine(request: MatrixRequest, settings: Settings, reporter: Reporter) -> Iterator[Engine]:
    """Where builds run; inside, LXD is that of the remote in the settings, if there is one.

    Packages are verified on this machine in any case.

    Raises:
        ConfigurationError: There is no such remote or target.
        LXDError: The remote cannot be used, or packages cannot be verified here.
    """
    verifies_here = request.verify and settings.remote
    if verifies_here:
        project_exists(settings.project_name)
    with open_machine(request.common, settings):
        yield find_engine(settings, reporter)
    if verifies_here:
        _remove_remains(settings.on_this_machine, reporter)


def plan_matrix(
    request: MatrixRequest, engine: Engine, settings: Settings, reporter: Reporter
) -> tuple[PlannedCell, ...]:
    """The cells of a matrix, and which are up to date.

    Args:
        request: What was asked for.
        engine: Where builds run.
        settings: Settings of this site.
        reporter: Shows what is fetched.

    Raises:
        ConfigurationError: A cell cannot be planned, or there is none.
        DownloadError: A source or a catalog could not be fetched.
        OutputError: The cache directory cannot be used.
    """
    catalog = read_catalog(settings, reporter, offline=request.common.offline)

    def plan(options: BuildOptions) -> Any:
        machine = engine.architecture(options.arch)
        asked = read_request(options, settings, reporter, catalog=catalog, machine=machine)
        return plan_request(asked, machine)

    cells = find_cells(request.spec, request.common, plan, catalog)
    earlier = earlier_builds(settings.builds_dir)
    return tuple(
        PlannedCell(
            cell, find_up_to_date(cell.plan, settings), expected_seconds(cell.plan, earlier)
        )
        for cell in cells
    )


def run_matrix(
    planned: Sequence[PlannedCell],
    request: MatrixRequest,
    engine: Engine,
    settings: Settings,
    reporter: Reporter,
    program: Sequence[str] = PROGRAM,
) -> MatrixResult:
    """Build what is not up to date.

    Args:
        planned: The cells.
        request: What was asked for.
        engine: Where builds run.
        settings: Settings of this site.
        reporter: Shows what happens.
        program: The program that builds a cell.

    Raises:
        LXDError: LXD cannot be used, or another matrix runs.
        OutputError: The cache directory cannot be used.
    """
    began = time.monotonic()
    todo = [each for each in planned if _has_to_run(each, request)]
    cells = request.parallel or settings.matrix_cells
    machines = [each.cell.plan.machine for each in todo]
    divisions, whole = engine.divide(machines, cells, request.jobs)
    commands = {
        each.name: command_of(each.cell, request, divisions[each.cell.plan.machine].jobs, engine)
        for each in planned
    }
    results: Mapping[str, Result] = {}
    directory = None
    if todo:
        prepare_cache(settings)
        with _alone(settings):
            project_exists(settings.project_name)
            directory = settings.logs_dir / new_build_id(NAME)
            reporter.log_to(directory)
            pool = Pool(
                schedule_of(todo, planned, (divisions, whole), engine, settings),
                {
                    name: [*program, f"--project-name={settings.project_name}", *words]
                    for name, words in commands.items()
                },
                directory,
                _Show(reporter, len(todo), settings),
                _rules(request, engine, settings),
                environment=engine.variables,
            )
            with reporter.step(f"Build {len(todo)} of {len(planned)} cells"):
                results = pool.run()
            if pool.interrupts:
                _remove_remains(settings, reporter)
    return MatrixResult(
        directory,
        time.monotonic() - began,
        whole.tasks,
        max((divisions[name].jobs for name in machines), default=0),
        tuple(
            CellResult(
                each,
                results.get(each.name, Result(State.UP_TO_DATE, attempts=0)),
                shlex.join([APPLICATION, *commands[each.name]]),
            )
            for each in planned
        ),
    )


def command_of(cell: Cell, request: MatrixRequest, jobs: int, engine: Engine) -> list[str]:
    """The words of the command that builds a cell, after the name of the program."""
    options = replace(cell.options, jobs=jobs)
    if engine.remote:
        # What its members are may change before it begins.
        options = replace(options, arch=cell.plan.architecture)
    flags = {"--force": request.force, "--verify": request.verify, "--strict": request.strict}
    words = [flag for flag, on in flags.items() if on]
    words += [f"--sign={request.sign}"] * bool(request.sign)
    return ["build", *options.words(), *engine.words, *words, "--json"]


def schedule_of(
    todo: Sequence[PlannedCell],
    planned: Sequence[PlannedCell],
    division: tuple[Mapping[str, Division], Room],
    engine: Engine,
    settings: Settings,
) -> Schedule:
    """The order of the cells that have to be built, and what is there for them already.

    What a cell shares with one that is up to date was made for that one.

    Args:
        todo: The cells that have to be built.
        planned: All cells.
        division: How the machines of each architecture are divided, and what all builds may use.
        engine: Where builds run.
        settings: Settings of this site.
    """
    divisions, whole = division
    made = {share for each in planned if each.finished for share in shares_of(each.cell)}
    for each in todo:
        setup = each.cell.plan.setup
        if load_record(setup, settings.images_dir) is not None:
            made.add(f"{BASE}{record_path(setup, settings.images_dir).stem}")
    tasks = [
        Task(
            each.name,
            each.seconds,
            divisions[each.cell.plan.machine].each,
            shares_of(each.cell, remote=bool(engine.remote)),
            each.cell.plan.machine,
        )
        for each in todo
    ]
    return Schedule(tasks, whole, made, {name: each.whole for name, each in divisions.items()})


def shares_of(cell: Cell, *, remote: bool = False) -> frozenset[str]:
    """What a cell makes that others need as well: its base, and the libraries of Spack.

    Each member of a remote has bases of its own, and LXD chooses the member: there a build waits
    for the lock of the base on its member.
    """
    plan = cell.plan
    base = record_path(plan.setup, Path()).stem
    shares = set() if remote else {f"{BASE}{base}"}
    if plan.deps is Deps.SPACK and plan.spack:
        shares.add(f"{PACKAGES}{base} {plan.spack.target} {plan.spack.local_buildcaches[0]}")
    return frozenset(shares)


def _has_to_run(each: PlannedCell, request: MatrixRequest) -> bool:
    if each.finished is None or request.force:
        return True
    if request.verify and not each.finished.manifest.verified:
        return True
    return bool(request.sign) and not is_signed_with(each.finished.manifest_path, request.sign)


def _rules(request: MatrixRequest, engine: Engine, settings: Settings) -> Rules:
    patience = ELECTION_SECONDS if engine.remote else 0.0

    def usable() -> None:
        prepare_cache(settings)
        project_exists(settings.project_name)

    def has_room() -> bool:
        return free_disk(settings) >= NEEDED_BYTES

    return Rules(request.fail_fast, settings.matrix_cell_limit, usable, has_room, patience)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Refuse a second matrix, which would divide the same machines once more."""
    lock = filelock.FileLock(settings.cache_dir / LOCK)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise LXDError(
            f"Another matrix runs with {settings.cache_dir}.",
            details="Both would divide the same CPUs, memory and disk.",
            resolution="Wait for its end: what it has built is up to date then.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _remove_remains(settings: Settings, reporter: Reporter) -> None:
    """What killed children have left; a child that had the time has left nothing."""
    from slurm_factory.instances.orphans import end_killed_builds  # noqa: PLC0415  # slow to import

    end_killed_builds(settings, reporter)


class _Show(Watcher):
    """Shows the cells on the screen, and writes them into the log."""

    def __init__(self, reporter: Reporter, count: int, settings: Settings) -> None:
        self._reporter = reporter
        self._count = count
        self._settings = settings
        self._ended: dict[State, int] = {}

    def began(self, child: Child) -> None:
        again = f", attempt {child.attempts}" if child.attempts > 1 else ""
        self._reporter.note(f"{child.name} begins{again}")

    def again(self, name: str, result: Result) -> None:
        self._reporter.warning(f"{name}: {(result.error or {}).get('brief', '')} Starting again.")

    def interrupted(self, *, hard: bool) -> None:
        self._reporter.warning(
            "Killing the builds that still run."
            if hard
            else "Interrupted; the builds that run clean up and end. Once more kills them."
        )

    def ended(self, name: str, result: Result) -> None:
        self._ended[result.state] = self._ended.get(result.state, 0) + 1
        error = result.error or {}
        why = " ".join(str(error.get(part, "")) for part in ("brief", "details")).strip()
        took = f" after {duration(result.seconds)}" if result.attempts else ""
        log = f" (log: {result.log})" if result.log and result.state is State.FAILED else ""
        text = f"{name}: {result.state}{took}{f': {why}' if why else ''}{log}"
        outcome = {State.FAILED: Outcome.FAILED, State.INTERRUPTED: Outcome.INTERRUPTED}
        self._reporter.build_ended(
            text,
            Outcome.INTERRUPTED
            if result.state is State.NOT_RUN
            else outcome.get(result.state, Outcome.DONE),
            _last_lines(result.log),
        )

    def look(self, pool: Pool) -> None:
        done = ", ".join(f"{count} {state}" for state, count in sorted(self._ended.items()))
        head = f"{len(pool.schedule.waiting)} wait, {len(pool.children)} run"
        width = max((len(name) for name in pool.children), default=0)
        now = time.monotonic()
        rows = [
            f"{child.name:{width}}  {duration(child.seconds):>12}  {child.step or 'Start'}"
            f" ({duration(now - child.step_began)})"
            for child in pool.children.values()
        ]
        self._reporter.board([f"{head}{', ' if done else ''}{done}", *rows])


def _last_lines(log: Path | None) -> list[str]:
    """The end of a child's log (host)."""
    if log is None:
        return []
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - (1 << 18)))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-LOG_LINES:]
