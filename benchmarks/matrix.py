"""Measure `slurm-factory matrix`, and write its part of docs/performance.md.

Run it on a machine that does nothing else: `uv run python benchmarks/matrix.py DIRECTORY`. The
directory has the source archives of upstream's tags, by their file names. All runs have caches of
their own, and share an LXD project that is made for them and removed at the end.

First the whole matrix runs, is killed when half of it is built, and runs again: it makes the bases.
Then some cells are built 1, 2 and 4 at a time, each time from empty caches.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from build import write_part

from slurm_factory.config import ENVIRONMENT_PREFIX, load_settings
from slurm_factory.instances.lxc import instance_names
from slurm_factory.plan.bases import host_release

TITLE = "## Many builds at once"
SERIES = "23.02.8,23.11.11,24.05.8,24.11.7,25.05.8,25.11.7,26.05.3"
AT_A_TIME = (1, 2, 4)
MAKES_A_BASE = "Preparing the base instance"
PATIENCE = 300.0
"""Seconds in which builds must be gone whose parent was killed."""


@dataclass
class Mirror:
    """Serves source archives, and counts how often each was fetched."""

    url: str
    fetched: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Run:
    """A run of a matrix.

    Attributes:
        document: What it printed.
        fetched: How often each archive was fetched.
        bases: How many bases were made.
        load: Load of the machine at its beginning.
    """

    document: dict[str, Any]
    fetched: Counter[str]
    bases: int
    load: float

    @property
    def per_hour(self) -> float:
        """Packages an hour."""
        return self.count("built") / float(self.document["seconds"]) * 3600

    def count(self, state: str) -> int:
        """How many cells ended so."""
        return sum(cell["state"] == state for cell in self.document["cells"])


@contextmanager
def serving(directory: Path) -> Iterator[Mirror]:
    """A mirror of the archives in a directory (host)."""
    mirror = Mirror("")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            del size
            if code == http.HTTPStatus.OK and self.command == "GET":
                mirror.fetched[Path(self.path).name] += 1

        def log_message(self, *_: Any) -> None: ...

    handler = functools.partial(Handler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield mirror
        server.shutdown()


@contextmanager
def new_cache() -> Iterator[Path]:
    """An empty cache directory beside the user's."""
    beside = load_settings().cache_dir.parent
    with tempfile.TemporaryDirectory(prefix=".slurm-factory-benchmark-", dir=beside) as scratch:
        yield Path(scratch)


@contextmanager
def new_project() -> Iterator[None]:
    """An LXD project for all runs."""
    os.environ[f"{ENVIRONMENT_PREFIX}PROJECT_NAME"] = f"benchmark-{os.getpid()}"
    try:
        yield
    finally:
        with new_cache() as cache:
            environment = {**os.environ, f"{ENVIRONMENT_PREFIX}CACHE_DIR": str(cache)}
            command = [sys.executable, "-m", "slurm_factory", "clean", "--full", "--yes"]
            subprocess.run(command, env=environment, check=True)


def start(words: Sequence[str], cache: Path, mirror: Mirror) -> subprocess.Popen[str]:
    """Start a matrix."""
    environment = {
        **os.environ,
        f"{ENVIRONMENT_PREFIX}CACHE_DIR": str(cache),
        f"{ENVIRONMENT_PREFIX}SOURCE_MIRRORS": mirror.url,
    }
    command = [sys.executable, "-m", "slurm_factory", "matrix", *words, "--deps", "system"]
    return subprocess.Popen(
        [*command, "--json"], env=environment, stdout=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str], cache: Path, mirror: Mirror, load: float) -> Run:
    """Wait for a matrix."""
    printed, _ = process.communicate()
    texts = [path.read_text(errors="replace") for path in cache.glob("logs/*/build.log")]
    bases = sum(text.count(MAKES_A_BASE) for text in texts)
    return Run(json.loads(printed), Counter(mirror.fetched), bases, load)


def at_a_time(number: int, words: Sequence[str], archives: Path) -> Run:
    """Build some cells from empty caches."""
    with new_cache() as cache, serving(archives) as mirror:
        load = os.getloadavg()[0]
        process = start([*words, "--parallel", str(number)], cache, mirror)
        run = finish(process, cache, mirror, load)
    print(f"{number} at a time: {run.per_hour:.1f} packages an hour, load {load:.1f}", flush=True)
    return run


def killed_and_resumed(words: Sequence[str], archives: Path) -> tuple[int, float, Run]:
    """Kill a matrix when half of its cells are built, and run it again.

    Returns:
        How many cells it had built, in how many seconds its builds were gone, and the second run.
    """
    dry = [sys.executable, "-m", "slurm_factory", "matrix", *words, "--deps", "system"]
    asked = subprocess.run([*dry, "--dry-run", "--json"], stdout=subprocess.PIPE, check=True)
    half = len(json.loads(asked.stdout)["cells"]) // 2
    with new_cache() as cache, serving(archives) as mirror:
        load = os.getloadavg()[0]
        began = time.monotonic()
        process = start(words, cache, mirror)
        while process.poll() is None and not (len(manifests(cache)) >= half and compiles(cache)):
            time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed = time.monotonic()
        while locks(cache) and time.monotonic() - killed < PATIENCE:
            time.sleep(0.1)
        gone = time.monotonic() - killed
        built = len(manifests(cache))
        run = finish(start(words, cache, mirror), cache, mirror, load)
        print(
            f"{built} built and killed after {killed - began:.0f} s, gone after {gone:.1f} s;"
            f" again: {run.count('built')} built, {run.count('up-to-date')} up to date,"
            f" {run.count('failed')} failed in {run.document['seconds']:.0f} s;"
            f" {run.bases} bases, {run.fetched.total()} archives; load {load:.1f}",
            flush=True,
        )
        print(json.dumps(run.document), file=sys.stderr)
    project = load_settings().project_name
    left = [name for name in instance_names(project) if name.startswith("build-")]
    if left:
        raise SystemExit(f"These are left: {left}")
    return built, gone, run


def manifests(cache: Path) -> list[Path]:
    """Of finished packages."""
    return list(cache.glob("builds/*/*-manifest.json"))


def locks(cache: Path) -> list[Path]:
    """Of builds that run, or were killed."""
    return list(cache.glob("work/*.lock"))


def compiles(cache: Path) -> bool:
    """Whether a build has come to its compilers, and is not over."""
    logs = cache.glob("logs/*/build.log")
    texts = [log.read_text(errors="replace") for log in logs]
    return any("Step: Compile" in text.rpartition("Step done")[2] for text in texts)


def report(runs: dict[int, Run], whole: tuple[int, float, Run] | None) -> Iterator[str]:
    """The lines of the page."""
    cpus = len(os.sched_getaffinity(0))
    first = runs[min(runs)]
    count = len(first.document["cells"])
    release = "@".join(host_release())
    yield f"{count} cells, `--deps system`, caches empty each time; {cpus} CPUs, {release}."
    yield "`uv run python benchmarks/matrix.py DIRECTORY` measures again and writes this part."
    yield ""
    columns = ("At a time", "Time", "Packages an hour", "Ratio", "Bases made", "Archives fetched")
    yield f"| {' | '.join(columns)} | Load before |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for number, run in runs.items():
        yield (
            f"| {number} | {run.document['seconds']:.0f} s | {run.per_hour:.1f}"
            f" | {run.per_hour / first.per_hour:.2f} | {run.bases}"
            f" | {run.fetched.total()} | {run.load:.1f} |"
        )
    if whole:
        built, gone, run = whole
        cells = len(run.document["cells"])
        yield ""
        yield f"A matrix of {cells} cells was killed (SIGKILL) when {built} were built and others"
        yield f"compiled, which had ended after {gone:.1f} s. The same command then found"
        yield f"{run.count('up-to-date')} up to date, built {run.count('built')} in"
        yield f"{run.document['seconds']:.0f} s ({run.per_hour:.1f} an hour), and"
        yield f"{run.count('failed')} failed. Both runs together made {run.bases} bases and fetched"
        yield f"{run.fetched.total()} source archives, {len(run.fetched)} different ones."


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", type=Path)
    parser.add_argument("--series", default=SERIES)
    parser.add_argument("--some", default="25.05.8,26.05.3", help="series for the first part")
    parser.add_argument("--bases", default="debian@12,debian@13")
    parser.add_argument("--types", default="standard,minimal")
    parser.add_argument("--without-whole", action="store_true")
    asked = parser.parse_args()
    common = ["--base", asked.bases, "--type", asked.types]
    some = ["--series", asked.some, *common]
    whole = None
    with new_project():
        if not asked.without_whole:
            whole = killed_and_resumed(["--series", asked.series, *common], asked.archives)
        runs = {number: at_a_time(number, some, asked.archives) for number in AT_A_TIME}
    write_part(TITLE, list(report(runs, whole)))


if __name__ == "__main__":
    main()
