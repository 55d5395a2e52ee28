"""How long a build will take, by what earlier ones took."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.package.file_names import MANIFEST_END
from slurm_factory.resources import load_toml
from slurm_factory.util.documents import read_json

if TYPE_CHECKING:
    from slurm_factory.plan.plan import BuildPlan


@dataclass(frozen=True)
class Earlier:
    """An earlier build: its package, and how long its steps took."""

    stem: str
    series: str
    kind: str
    deps: str
    seconds: float


def earlier_builds(builds: Path) -> tuple[Earlier, ...]:
    """All finished builds below a directory (host); unreadable ones are left out."""
    return tuple(_read(sorted(builds.glob(f"*/*{MANIFEST_END}"))))


def expected_seconds(plan: BuildPlan, earlier: Iterable[Earlier]) -> float:
    """How long a build will take: as the same package did, else as the most similar ones did.

    Args:
        plan: Plan of the build.
        earlier: Earlier builds.
    """
    alike = [each for each in earlier if (each.kind, each.deps) == (plan.build_type, plan.deps)]
    same = [each.seconds for each in alike if each.stem == plan.stem]
    near = [each.seconds for each in alike if each.series == plan.release.series]
    found = same or near or [each.seconds for each in alike]
    return statistics.median(found) if found else default_seconds(plan.deps, plan.build_type)


def default_seconds(deps: str, kind: str) -> float:
    """As long as such a build took where it was measured."""
    return _defaults()[deps, kind]


@cache
def _defaults() -> dict[tuple[str, str], float]:
    rows = load_toml("durations.toml")["build"]
    return {(row["deps"], row["type"]): float(row["seconds"]) for row in rows}


def _read(manifests: Iterable[Path]) -> Iterator[Earlier]:
    for path in manifests:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found = read_json(path)
            identity = found["identity"]
            yield Earlier(
                str(identity["stem"]),
                ".".join(str(identity["release"]).split(".")[:2]),
                str(identity["build_type"]),
                str(identity["deps"]),
                sum(float(step["seconds"]) for step in found["steps"]),
            )
