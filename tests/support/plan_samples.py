"""Plans for tests, made on a machine that runs Debian 12."""

from typing import Any

from slurm_factory.config import Settings
from slurm_factory.constants import Deps
from slurm_factory.plan.base_setup import SpackRefs
from slurm_factory.plan.plan import BuildPlan, BuildRequest, SpackChoice, make_plan

DEBIAN_12 = ("debian", "12")
X86_64 = "x86_64"
SPACK = SpackChoice(
    SpackRefs(
        url="https://git.example/spack.git",
        ref="v1.1.0",
        packages_url="https://git.example/spack-packages.git",
        packages_ref="v2026.06.0",
    ),
    target="x86_64_v2",
)


def make_request(slurm_version: str = "24.11", **changes: Any) -> BuildRequest:
    defaults: dict[str, Any] = {"deps": Deps.SYSTEM, "base": "debian@12", "spack": SPACK}
    return BuildRequest(slurm_version, **(defaults | changes))


def sample_plan(
    slurm_version: str = "24.11", *, architecture: str = X86_64, **changes: Any
) -> BuildPlan:
    return make_plan(make_request(slurm_version, **changes), architecture, DEBIAN_12)


def spack_plan(slurm_version: str = "24.11", **changes: Any) -> BuildPlan:
    return sample_plan(slurm_version, **{"deps": Deps.SPACK, **changes})


def sample_settings(cache_dir: object, **changes: Any) -> Settings:
    return Settings(cache_dir=cache_dir, **changes)
