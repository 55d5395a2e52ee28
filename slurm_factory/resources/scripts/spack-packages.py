"""Describe every package of an environment that Spack installs, for `spack python`.

Prints a JSON object a line. Licenses and home page are those of the package object: conditions
(`when=`) and what a package recipe inherits count. Sources are what Spack's own stages know: the
archive, resources and patches that come from a URL. Source code from a version control system has
no checksum (null).
"""

import json
import posixpath
from collections.abc import Iterator
from typing import Any

import spack.environment  # type: ignore[import-not-found]

MARK = "slurm-factory-package "


def sources(package: Any) -> Iterator[dict[str, Any]]:
    """Each stage that Spack looks for in a source mirror, the package's own archive first.

    `stored_as` is the path below a source mirror (mirrors/layout.py).
    """
    for stage in package.stage if package.has_code else ():
        if getattr(stage, "mirror_layout", None):
            fetcher = stage.default_fetcher
            yield {
                "sha256": getattr(fetcher, "digest", None),
                "stored_as": posixpath.normpath(stage.mirror_layout.path),
                "urls": list(getattr(fetcher, "candidate_urls", ())),
            }


def main() -> None:
    for spec in spack.environment.active_environment().all_specs():
        if spec.external:
            continue
        package = spec.package
        row = {
            "hash": spec.dag_hash(),
            "name": spec.name,
            "version": str(spec.version),
            "licenses": [text for when, text in package.licenses.items() if spec.satisfies(when)],
            "homepage": getattr(package, "homepage", None) or "",
            "sources": list(sources(package)),
        }
        print(MARK + json.dumps(row), flush=True)


main()
