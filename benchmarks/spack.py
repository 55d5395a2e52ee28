"""Measure the Spack recipe cold and from its caches, and write its part of docs/performance.md.

Run it on a machine that does nothing else, with the settings for Spack of this site in the
environment: `uv run python benchmarks/spack.py [TYPE…]`, types being minimal and standard. The
base instance must be ready. Cold means an empty build cache and compiler cache and no kept lock;
sources are those of the user's source cache. Then the same build again, in a new instance.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build import private_cache, timed_build, write_part

from slurm_factory.config import load_settings
from slurm_factory.plan.bases import host_release

if TYPE_CHECKING:
    from slurm_factory.config import Settings

VERSION = "25.05.8"
TITLE = "## The Spack recipe"
TYPES = {"minimal": ["--minimal"], "standard": []}
SPACK = ("Concretize", "Build packages")
"""Steps that are Spack's own work; all others are the factory's."""


@dataclass(frozen=True)
class Run:
    """One build: seconds in all, by step, and what came from the cache."""

    total: float
    steps: dict[str, float]
    packages: int
    cached: int
    megabytes: float

    @property
    def outside(self) -> float:
        """Seconds that neither `spack install` nor concretizing took."""
        return self.total - sum(self.steps.get(name, 0.0) for name in SPACK)


def main(types: list[str]) -> None:
    """Build each type cold, then from the caches."""
    rows = []
    for name in types:
        with private_cache(load_settings()) as settings:
            cold, warm = build(name, settings), build(name, settings)
            rows.append(row(name, cold, warm))
            print(rows[-1])
    write_part(TITLE, [*heading(), *rows])


def build(build_type: str, settings: Settings) -> Run:
    """One build through the command line, in a new instance."""
    arguments = ["--slurm-version", VERSION, "--base", "same", "--force", *TYPES[build_type]]
    total, document = timed_build(arguments, settings)
    manifest: dict[str, Any] = document["manifest"]
    packages = manifest["spack"]["packages"]
    return Run(
        total,
        {step["name"]: step["seconds"] for step in manifest["steps"]},
        len(packages),
        sum(package["cached"] for package in packages),
        manifest["files"][0]["size"] / 1e6,
    )


def heading() -> list[str]:
    """What was measured, and the head of the table."""
    cpus = len(os.sched_getaffinity(0))
    columns = (
        *("Type", "Packages", "Cold", "Of that concretizing", "From the caches", "Ratio"),
        *("From the build cache", "Outside Spack, cold / again", "Tarball"),
    )
    return [
        (
            f"Slurm {VERSION}, `--base same`, base instance ready, sources in the source cache;"
            f" {cpus} CPUs, {'@'.join(host_release())}; one run each."
        ),
        (
            "Aims: from the caches at most 0.1 of the cold build and under 60 s, 95 % of the"
            " packages from the cache, and at most 40 s outside `spack install` and concretizing."
        ),
        "`uv run python benchmarks/spack.py` measures again and writes this part.",
        "",
        f"| {' | '.join(columns)} |",
        f"| --- |{' ---: |' * (len(columns) - 1)}",
    ]


def row(name: str, cold: Run, warm: Run) -> str:
    """One line of the table."""
    cells = [
        name,
        f"{cold.packages}",
        f"{cold.total:.0f} s",
        f"{cold.steps.get('Concretize', 0.0):.0f} s",
        f"{warm.total:.1f} s",
        f"{warm.total / cold.total:.3f}",
        f"{warm.cached} of {warm.packages}",
        f"{cold.outside:.1f} s / {warm.outside:.1f} s",
        f"{warm.megabytes:.1f} MB",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:] or list(TYPES))
