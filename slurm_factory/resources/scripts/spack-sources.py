"""List the sources of every package of an environment, for `spack python`.

Prints a JSON object a line, with what Spack's own stages know: the archive, resources and patches
that come from a URL. What comes from a version control system has no checksum (null).
"""

import json
import posixpath
from collections.abc import Iterator
from typing import Any

import spack.environment  # type: ignore[import-not-found]

MARK = "slurm-factory-source "


def sources() -> Iterator[tuple[Any, Any]]:
    """Each package with each of its stages that Spack looks for in a source mirror."""
    for spec in spack.environment.active_environment().all_specs():
        if spec.external or not spec.package.has_code:
            continue
        for stage in spec.package.stage:
            if getattr(stage, "mirror_layout", None):
                yield spec, stage


def main() -> None:
    """`stored_as` is the path below a source mirror (mirrors/layout.py)."""
    for spec, stage in sources():
        fetcher = stage.default_fetcher
        row = {
            "hash": spec.dag_hash(),
            "package": spec.name,
            "version": str(spec.version),
            "sha256": getattr(fetcher, "digest", None),
            "stored_as": posixpath.normpath(stage.mirror_layout.path),
            "urls": list(getattr(fetcher, "candidate_urls", ())),
        }
        print(MARK + json.dumps(row), flush=True)


main()
