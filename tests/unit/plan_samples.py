"""Plans for tests, made on a machine that runs Debian 12."""

from typing import Any

from slurm_factory.config import Settings
from slurm_factory.constants import Deps
from slurm_factory.plan import BuildPlan, BuildRequest, make_plan

DEBIAN_12 = ("debian", "12")
X86_64 = "x86_64"


def make_request(slurm_version: str = "24.11", **changes: Any) -> BuildRequest:
    return BuildRequest(slurm_version, **{"deps": Deps.SYSTEM, "base": "debian@12", **changes})


def sample_plan(
    slurm_version: str = "24.11", *, architecture: str = X86_64, **changes: Any
) -> BuildPlan:
    return make_plan(make_request(slurm_version, **changes), architecture, DEBIAN_12)


def sample_settings(cache_dir: object, **changes: Any) -> Settings:
    return Settings(cache_dir=cache_dir, **changes)
