"""Run by Spack's own interpreter: concretize several sets of roots, as JSON.

Arguments: directory of an environment, whose configuration holds; file with {name: [root]}.
Prints {name: {package: node}} or {name: error}; one solve costs half a minute, so that as many run
at a time as there are cores.
"""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import spack.environment  # type: ignore[import-not-found]
import spack.error  # type: ignore[import-not-found]
import spack.solver.asp  # type: ignore[import-not-found]
import spack.spec  # type: ignore[import-not-found]


def node(spec: Any) -> dict[str, Any]:
    """What tests ask about one package of a graph."""
    return {
        "version": str(spec.version),
        "external": spec.external,
        "namespace": spec.namespace,
        "runtime": sorted({d.name for d in spec.dependencies(deptype=("link", "run"))}),
        "variants": {name: str(variant.value) for name, variant in spec.variants.items()},
        "remote": [patch.url for patch in spec.patches if hasattr(patch, "url")],
        "patches": [Path(p.path).name for p in spec.patches if getattr(p, "path", None)],
        "hash": spec.dag_hash(),
    }


def solve(task: tuple[str, list[str]]) -> tuple[str, dict[str, Any] | str]:
    """The graph of one set of roots, or why there is none."""
    name, roots = task
    try:
        found = spack.solver.asp.Solver().solve([spack.spec.Spec(root) for root in roots])
    except spack.error.SpackError as error:
        return name, str(error)
    return name, {spec.name: node(spec) for root in found.specs for spec in root.traverse()}


def main() -> None:
    """Print one object: name → graph."""
    tasks = json.loads(Path(sys.argv[2]).read_text()).items()
    with (
        spack.environment.Environment(sys.argv[1]),
        multiprocessing.Pool(maxtasksperchild=4) as pool,
    ):
        json.dump(dict(pool.imap_unordered(solve, tasks)), sys.stdout)


main()
