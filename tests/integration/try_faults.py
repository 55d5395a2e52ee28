"""Inject every fault of tests/support/fault_cases.py, and write the table of docs/reliability.md.

`make faults` runs it. It needs root, by sudo where need be, and starts an LXD of its own. Its
directory keeps the results: `--resume` injects only the faults that have none there.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from fault_cases import OTHER, all_cases
from fault_runner import Case, Row, Scene, leftovers, run_case
from fault_tools import MINIMAL, Site, copy_cache, make_cache, usable_in
from paths import REPOSITORY
from private_lxd import PROJECT, PrivateLXD

from slurm_factory.config import Settings, load_settings
from slurm_factory.instances.lxc import delete_instance, instance_names
from slurm_factory.util.files import atomic_write

PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN = "<!-- made by `make faults` -->\n"
END = "<!-- end -->\n"
HEAD = ("Fault", "When", "Exit code", "Said", "Lost", "Left at once", "Next build", "Left then")
DIRECTORY = Path("/var/tmp/slurm-factory-faults")
"""The root of an instance has to reach it: not in a home directory."""


def main() -> int:
    """Inject what is asked for; 1 if a row of the table is bad or missing."""
    options = _options()
    if shutil.which("lxd") is None:
        sys.exit("`make faults` starts a second LXD, which the lxd of the snap cannot do.")
    state: Path = options.directory
    state.mkdir(mode=0o711, exist_ok=True)
    if state.stat().st_uid != os.getuid():
        sys.exit(f"{state} belongs to another user: choose another --directory.")
    results = state / "results.json"
    rows = _load(results) if options.resume or options.only else {}
    cases = all_cases()
    chosen = [case for case in cases if not options.only or _matches(case, options.only)]
    lxd = PrivateLXD(state / "lxd")
    if options.remove:
        lxd.remove()
        shutil.rmtree(state)
        return 0
    lxd.start()
    lxd.fill(load_settings(), state)
    with lxd.in_use():
        compiled = _compiled(state, load_settings())
        for case in by_turns(chosen):
            if options.resume and case.key in rows:
                continue
            rows[case.key] = _run(case, compiled, lxd, state)
            _show(rows[case.key])
            _save(results, rows)
            write_table(cases, rows)
    write_table(cases, rows)
    return int(any(case.key not in rows or rows[case.key].wrong for case in cases))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--directory", type=Path, default=DIRECTORY, help="for LXD, caches, results"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the last run ended")
    parser.add_argument("--only", action="append", help="faults with this text in their row")
    parser.add_argument("--remove", action="store_true", help="remove the directory and its LXD")
    return parser.parse_args()


def _matches(case: Case, texts: Iterable[str]) -> bool:
    return any(text in case.key for text in texts)


def by_turns(cases: Sequence[Case]) -> Iterator[Case]:
    """The first row of each fault, then the second of each: a part says something of all."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.fault, []).append(case)
    while groups:
        for fault in list(groups):
            yield groups[fault].pop(0)
            if not groups[fault]:
                del groups[fault]


def _compiled(state: Path, settings: Settings) -> Path:
    """A cache directory with two finished packages and all that their builds left."""
    made = state / "compiled"
    if not made.exists():
        making = state / "compiling"
        shutil.rmtree(making, ignore_errors=True)
        make_cache(making, settings)
        for plan in (MINIMAL, OTHER):
            Site(making, PROJECT).build(*plan)
        making.rename(made)
    return made


def _run(case: Case, compiled: Path, lxd: PrivateLXD, state: Path) -> Row:
    """One case, in a cache directory of its own; nothing is left for the next."""
    _restore(lxd, state)
    with tempfile.TemporaryDirectory(dir=state, prefix="case-") as scratch:
        site = Site(copy_cache(compiled, Path(scratch) / "cache"), PROJECT)
        room = Path(scratch) / "scratch"
        room.mkdir()
        left = leftovers(site)
        assert not left, left
        return run_case(case, Scene(site, lxd, room))


def _restore(lxd: PrivateLXD, state: Path) -> None:
    """Bring LXD to where it was, whatever a case has left."""
    lxd.start()
    bases = {base.name for base in usable_in(PROJECT)}
    for name in instance_names(PROJECT):
        if name not in bases:
            delete_instance(name, PROJECT)
    lxd.fill(load_settings(), state)


def _load(results: Path) -> dict[str, Row]:
    if not results.exists():
        return {}
    return {key: Row(**row) for key, row in json.loads(results.read_text()).items()}


def _save(results: Path, rows: dict[str, Row]) -> None:
    with atomic_write(results) as file:
        file.write(json.dumps({key: asdict(row) for key, row in rows.items()}, indent=1).encode())


def _show(row: Row) -> None:
    verdict = "good" if not row.wrong else f"BAD: {'; '.join(row.wrong)}"
    sys.stdout.write(f"{row.fault}: {row.step}: {verdict}\n")
    sys.stdout.flush()


def write_table(cases: Sequence[Case], rows: dict[str, Row]) -> None:
    """Put the table into its place in the page."""
    text = PAGE.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    lines = [HEAD, ["---"] * len(HEAD), *(_cells(case, rows.get(case.key)) for case in cases)]
    table = "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def _cells(case: Case, row: Row | None) -> Sequence[str]:
    if row is None:
        return (case.fault, case.step, "not run", "", "", "", "", "")
    if row.next_code is None:
        return (case.fault, case.step, "", "; ".join(row.wrong), "", "", "", "")
    nothing = "nothing"
    return (
        case.fault,
        case.step,
        "killed" if row.code < 0 else str(row.code),
        row.said or nothing,
        ", ".join(row.lost) or nothing,
        ", ".join(row.left) or nothing,
        "succeeds" if row.next_code == 0 and not row.wrong else f"**bad**: {'; '.join(row.wrong)}",
        ", ".join(row.left_then) or nothing,
    )


if __name__ == "__main__":
    sys.exit(main())
