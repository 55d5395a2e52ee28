"""Compare packages by what a cluster of three nodes does with them, in one clean instance.

`PYTHONPATH=tests/support uv run python benchmarks/cluster.py MANIFEST MANIFEST…` on a machine that
does nothing else. Each round takes all packages in turn, every second one in reverse, so that what
drifts concerns all alike; the figures are medians, and their ratios to those of the first package.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from clean_instance import clean_copy

from slurm_factory.config import load_settings
from slurm_factory.package.manifest import load_manifest
from slurm_factory.verify.cluster import Cluster, Place
from slurm_factory.verify.package import find_package
from slurm_factory.verify.static import look

ROUNDS = 6
JOBS = 2000
STEPS = 101
LOGIN = "mysql_native_password"

Figures = dict[str, list[float]]


def measure(manifests: list[Path]) -> dict[Path, Figures]:
    """Seconds of each round, by package and name of the figure."""
    found: dict[Path, Figures] = {path: defaultdict(list) for path in manifests}
    settings = load_settings()
    with TemporaryDirectory() as scratch, clean_copy(settings) as instance:
        clusters = {}
        for number, path in enumerate(manifests):
            files = Path(scratch) / str(number)
            files.mkdir()
            opened = look(find_package(str(path), settings), files).opened
            if opened is None:
                raise SystemExit(f"{path} cannot be unpacked.")
            place = Place(PurePosixPath(f"/srv/{number}/software"), LOGIN)
            clusters[path] = (Cluster(instance, opened), place)
            clusters[path][0].deliver(place)
        for turn in range(ROUNDS):
            for path, (cluster, place) in list(clusters.items())[:: -1 if turn % 2 else 1]:
                cluster.start(place)
                for line in instance.run("measure.sh", place.tree, JOBS, STEPS).splitlines():
                    name, seconds = line.split()
                    found[path][name].append(float(seconds))
                cluster.stop()
                # slurmctld keeps ended jobs for 5 minutes, and has room for 10,000.
                ended = "rm -rf /var/spool/slurmctld/job* /var/spool/slurmctld/hash.*"
                instance.execute("forget jobs", ["bash", "-c", ended], {})
    return found


def main() -> None:
    """Print a line for each package and figure."""
    manifests = [Path(word) for word in sys.argv[1:]]
    found = measure(manifests)
    first = found[manifests[0]]
    for path, figures in found.items():
        print(load_manifest(path).identity.stem)
        for name, rounds in figures.items():
            ratio = statistics.median(rounds) / statistics.median(first[name])
            each = " ".join(f"{seconds:.4f}" for seconds in rounds)
            print(f"  {name}: {statistics.median(rounds):.4f} s, {ratio:.3f} x ({each})")


if __name__ == "__main__":
    main()
