"""Show, by hand, that a package of an unpatched Slurm fails: unpatched.py [RELEASE]

Exit status 0: it failed, as it should.
"""

import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace

from clean_instance import ScriptError
from live_cluster import try_package

from slurm_factory.builder import build
from slurm_factory.config import load_settings
from slurm_factory.constants import Deps
from slurm_factory.output.reporter import make_reporter
from slurm_factory.plan.bases import host_release
from slurm_factory.plan.plan import BuildRequest, make_plan


def main(release: str, on_line: Callable[[str], None]) -> int:
    """Build without patches, beside the real package, and run the checks."""
    settings = load_settings()
    request = BuildRequest(release, deps=Deps.SYSTEM, base="debian@12")
    patched = make_plan(request, platform.machine(), host_release())
    plan = replace(patched, requested=f"{release}-unpatched", patches=())
    with make_reporter() as reporter:
        outcome = build(plan, settings, reporter, keep_instance=False)
    try:
        try_package(settings, outcome.manifest_path, on_line)
    except ScriptError as error:
        on_line(f"The unpatched package fails, as it should:\n{error}")
        return 0
    finally:
        shutil.rmtree(outcome.manifest_path.parent)
    on_line("The unpatched package works: the patches, or these checks, do nothing.")
    return 1


if __name__ == "__main__":
    raise SystemExit(main([*sys.argv[1:], "24.11.5"][0], print))
