"""Show, by hand, that a package of an unpatched Slurm fails: unpatched.py [RELEASE]

Exit status 0: its files and its clusters failed, as they should.
"""

import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace

from slurm_factory.builder import build
from slurm_factory.config import load_settings
from slurm_factory.constants import Deps
from slurm_factory.output.reporter import make_reporter
from slurm_factory.plan.bases import host_release
from slurm_factory.plan.plan import BuildRequest, make_plan
from slurm_factory.verify.package import find_package
from slurm_factory.verify.verify import VerifyRequest, verify


def main(release: str, on_line: Callable[[str], None]) -> int:
    """Build without patches, beside the real package, and verify it."""
    settings = load_settings()
    request = BuildRequest(release, deps=Deps.SYSTEM, base="debian@12")
    patched = make_plan(request, platform.machine(), host_release())
    plan = replace(patched, requested=f"{release}-unpatched", patches=())
    with make_reporter() as reporter:
        outcome = build(plan, settings, reporter, keep_instance=False)
        try:
            package = find_package(str(outcome.manifest_path), settings)
            found = verify(VerifyRequest(package, on=("debian@13",)), settings, reporter)
        finally:
            shutil.rmtree(outcome.manifest_path.parent)
    files = [check for check in found.verification.static if check.result == "failed"]
    live = [check for trial in found.verification.trials for check in trial.checks]
    live = [check for check in live if check.result == "failed"]
    for check in (*files, *live):
        on_line(f"{check.name}: {check.detail}")
    return 0 if files and live else 1


if __name__ == "__main__":
    raise SystemExit(main([*sys.argv[1:], "24.11.5"][0], print))
