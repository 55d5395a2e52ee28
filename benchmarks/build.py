"""Measure a build against the same commands run by hand, and write its part of docs/performance.md.

Run it on a machine that does nothing else: `uv run python benchmarks/build.py [ROUNDS]`.
The base instance must be ready (any earlier build on the same base makes it). Figures are ratios
within one run, since absolute times depend on the machine. The run has caches of its own: the
user's stay as they are.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from filelock import FileLock

from slurm_factory import resources
from slurm_factory.cache_dir import make_cache_dir
from slurm_factory.config import ENVIRONMENT_PREFIX, Settings, load_settings
from slurm_factory.constants import BUILD_PREFIX, Deps
from slurm_factory.fetch.sources import cached
from slurm_factory.fetch.upstream import sources_for
from slurm_factory.instances.build_instance import lxd_instance
from slurm_factory.instances.instance import Instance, Mount
from slurm_factory.instances.launch import Launch
from slurm_factory.instances.this_machine import choose_jobs
from slurm_factory.output.reporter import make_reporter
from slurm_factory.plan.bases import host_release
from slurm_factory.plan.plan import BuildPlan, BuildRequest, make_plan

VERSION = "24.11.5"
REPORT = Path(__file__).parents[1] / "docs" / "performance.md"
ARGUMENTS = ["--slurm-version", VERSION, "--deps", "system", "--base", "same"]
TITLE = "## The recipe with the libraries of the base"
COMPILING = ("Configure", "Compile")
BY_HAND = f"{BUILD_PREFIX}benchmark-{os.getpid()}"
"""By this name `slurm-factory clean` removes what an interrupted run leaves."""


@dataclass(frozen=True)
class Sample:
    """Seconds of one build by the tool."""

    total: float
    steps: dict[str, float]

    @property
    def compiling(self) -> float:
        """Configure and make."""
        return sum(self.steps[name] for name in COMPILING)

    @property
    def else_(self) -> float:
        """All that the tool adds, from the start of the process to its end."""
        return self.total - self.compiling


def main(rounds: int) -> None:
    """Alternate builds by the tool and by hand, then rebuild with a full ccache."""
    plan = make_plan(
        BuildRequest(VERSION, deps=Deps.SYSTEM, base="same"), platform.machine(), host_release()
    )
    cold, by_hand = [], []
    with private_cache(load_settings()) as settings:
        jobs = choose_jobs(None, settings)
        for _ in range(rounds):
            for kept in (settings.ccache_dir, settings.configure_dir):
                shutil.rmtree(kept, ignore_errors=True)
            cold.append(by_tool(settings, jobs, force=True))
            by_hand.append(commands_by_hand(plan, settings, jobs))
            print(f"tool {cold[-1].compiling:.1f} + {cold[-1].else_:.1f}, hand {by_hand[-1]:.1f}")
        warm = [by_tool(settings, jobs, force=True)]
        unforced = [by_tool(settings, jobs, force=False).total for _ in range(rounds)]
    write_part(TITLE, report(cold, by_hand, warm, unforced))


@contextmanager
def private_cache(own: Settings) -> Iterator[Settings]:
    """A cache directory with the user's sources in it, on the same file system."""
    beside = own.cache_dir.parent
    with tempfile.TemporaryDirectory(prefix=".slurm-factory-benchmark-", dir=beside) as scratch:
        settings = load_settings(cache_dir=scratch)
        make_cache_dir(settings)
        if own.source_cache_dir.is_dir():
            shutil.copytree(own.source_cache_dir, settings.source_cache_dir)
        yield settings


def by_tool(settings: Settings, jobs: int, *, force: bool) -> Sample:
    """One build through the command line."""
    arguments = [*ARGUMENTS, "--jobs", str(jobs), *(["--force"] if force else [])]
    total, document = timed_build(arguments, settings)
    steps = {step["name"]: step["seconds"] for step in document["manifest"]["steps"]}
    return Sample(total, steps)


def timed_build(arguments: list[str], settings: Settings) -> tuple[float, dict[str, Any]]:
    """Seconds of a build by the command line, and what it says."""
    command = [sys.executable, "-m", "slurm_factory", "build", *arguments, "--json"]
    environment = {**os.environ, f"{ENVIRONMENT_PREFIX}CACHE_DIR": str(settings.cache_dir)}
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    total = time.monotonic() - began
    document: dict[str, Any] = json.loads(done.stdout)
    return total, document


def write_part(title: str, lines: list[str]) -> None:
    """Put one part of the page in the place of its last one; the others stay."""
    head, *others = re.split(r"(?m)^(?=## )", REPORT.read_text())
    parts = {part.splitlines()[0]: part for part in others}
    parts[title] = "\n".join([title, "", *lines])
    REPORT.write_text(head + "\n".join(part.rstrip("\n") + "\n" for part in parts.values()))
    print(parts[title])


def commands_by_hand(plan: BuildPlan, settings: Settings, jobs: int) -> float:
    """Seconds of configure and make in a copy of the same instance, without ccache."""
    with tempfile.TemporaryDirectory(dir=settings.work_dir) as scratch:
        launch = Launch(
            setup=plan.setup,
            machine=platform.machine(),
            name=BY_HAND,
            lock=Path(scratch) / "lock",
            mounts=(Mount(settings.source_cache_dir), Mount(Path(scratch))),
        )
        with (
            FileLock(launch.lock),
            lxd_instance(launch, settings, make_reporter(verbose=True)) as instance,
        ):
            source = _unpack(instance, plan, settings, Path(scratch))
            flags = plan.compiler
            variables = {"CFLAGS": " ".join(flags.slurm), "LDFLAGS": " ".join(flags.slurm_linker)}
            exports = [f"{name}={value}" for name, value in variables.items()]
            configure = ["./configure", *plan.configure_arguments, *exports]
            make = resources.script("make-slurm.sh")
            environment = {"SOURCE": source, "JOBS": str(jobs), "PREFIX": "/opt/slurm/software"}
            environment["MAKE_ARGUMENTS"] = "\n".join(flags.make)
            given = [f"{name}={value}" for name, value in environment.items()]
            began = time.monotonic()
            _exec(settings, "--cwd", source, "--", *configure)
            _exec(settings, "--", "env", *given, "WITH_PAM=yes", "bash", "-c", make)
            return time.monotonic() - began


def _unpack(instance: Instance, plan: BuildPlan, settings: Settings, scratch: Path) -> str:
    archive = cached(sources_for(plan, settings)["slurm"], settings.source_cache_dir)
    if archive is None:
        raise SystemExit("Build once before the benchmark: the source is not in the cache.")
    source = instance.build_dir / plan.release.tag
    patches = scratch / "patches"
    patches.mkdir()
    for patch in plan.patches:
        content = resources.patches_dir().joinpath(patch.name).read_bytes()
        (patches / patch.name).write_bytes(content)
    environment: dict[str, str | PurePath] = {
        "ARCHIVE": instance.inside(archive),
        "SOURCE": source,
        "PATCHES": instance.inside(patches),
        "PATCH_NAMES": "\n".join(patch.name for patch in plan.patches),
    }
    instance.run_script("unpack-slurm.sh", environment, lambda _: None)
    return str(source)


def _exec(settings: Settings, *arguments: str) -> None:
    command = ["lxc", "--project", settings.project_name, "exec", f"local:{BY_HAND}", *arguments]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def report(
    cold: list[Sample], by_hand: list[float], warm: list[Sample], unforced: list[float]
) -> list[str]:
    """Its part of docs/performance.md."""
    median = statistics.median
    compiling = median(sample.compiling for sample in cold)
    hand = median(by_hand)
    cold_total = median(sample.total for sample in cold)
    warm_total = median(sample.total for sample in warm)
    rows = [
        ("configure and make, by the tool, caches empty", f"{compiling:.1f} s"),
        ("the same commands by hand in a copy of the same instance, no ccache", f"{hand:.1f} s"),
        ("ratio (aim: at most 1.10)", f"{compiling / hand:.2f}"),
        ("all else the tool adds (aim: at most 25 s)", f"{median(s.else_ for s in cold):.1f} s"),
        ("whole build, caches empty", f"{cold_total:.1f} s"),
        ("whole build again with --force, caches full (once)", f"{warm_total:.1f} s"),
        ("ratio (aim: at most 0.5)", f"{warm_total / cold_total:.2f}"),
        ("build that is up to date (aim: under 1 s)", f"{median(unforced):.2f} s"),
    ]
    names = list(cold[0].steps)
    return [
        (
            f"Slurm {VERSION}, standard, `--deps system --base same`, base instance ready;"
            f" {len(os.sched_getaffinity(0))} CPUs, {'@'.join(host_release())};"
            f" {'one round' if len(cold) == 1 else f'medians of {len(cold)} alternating rounds'}."
        ),
        "`uv run python benchmarks/build.py` measures again and writes this part.",
        "",
        "| What | Median |",
        "| --- | ---: |",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "| Step | caches empty | caches full |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {median(s.steps[name] for s in cold):.1f} s"
            f" | {median(s.steps[name] for s in warm):.1f} s |"
            for name in names
        ),
        "",
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
