"""Try finished packages on a live cluster.

PYTHONPATH=tests/support try_packages.py [debian@11|debian@13] MANIFEST…

The MPI program is compiled here: on Debian 11 it needs OMPI_CC, a compiler for an older C library.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from clean_instance import NEWEST, SYSTEMS, ScriptError
from live_cluster import try_package

from slurm_factory.config import load_settings
from slurm_factory.package.manifest import load_manifest


def main(words: Sequence[str], on_line: Callable[[str], None]) -> int:
    """Tell what each package did, with sizes and seconds; 1 if one failed."""
    system = SYSTEMS.get(words[0], NEWEST)
    manifests = [Path(word) for word in words if word not in SYSTEMS]
    settings = load_settings()
    failed = 0
    for path in manifests:
        manifest = load_manifest(path)
        megabytes = sum(file.size for file in manifest.files) / 1e6
        on_line(f"{manifest.identity.stem} ({manifest.identity.release}): {megabytes:.1f} MB")
        began = time.monotonic()
        try:
            try_package(settings, path, on_line, system)
        except ScriptError as error:
            failed += 1
            on_line(f"  FAILED: {error}")
        on_line(f"  all: {time.monotonic() - began:.1f} s")
    return min(failed, 1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], print))
