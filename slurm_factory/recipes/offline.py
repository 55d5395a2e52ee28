"""What is told where `--offline` finds that something would have to be downloaded."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from slurm_factory.constants import DEFAULT_BASE, DEFAULT_DEPS, BuildType
from slurm_factory.exceptions import DownloadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.config import Settings
    from slurm_factory.plan import BuildPlan


def not_here(
    missing: Sequence[str], plan: BuildPlan, settings: Settings, note: str = ""
) -> DownloadError:
    """The error that names all that is missing, and how it can be had.

    Args:
        missing: A name for each thing.
        plan: What was to be built.
        settings: Of this site.
        note: What else the user should do.
    """
    return DownloadError(
        "--offline: not all that this build needs is on this machine.",
        details=f"Missing: {', '.join(missing)}.",
        resolution=f"Run `{prefetch_command(plan)}` where there is a network, and copy"
        f" {settings.cache_dir} from there. {note}".strip(),
    )


def prefetch_command(plan: BuildPlan) -> str:
    """The command that fills the caches for a plan, on whatever machine it runs."""
    words = ["slurm-factory", "prefetch", "--slurm-version", plan.version]
    words += [f"--{plan.build_type}"] * (plan.build_type is not BuildType.STANDARD)
    if plan.variants:
        signed = (f"{'+' if on else '~'}{name}" for name, on in plan.variants.items())
        words += ["--additional-variants", " ".join(signed)]
    words += ["--deps", plan.deps] * (plan.deps is not DEFAULT_DEPS)
    words += ["--base", plan.base.name] * (plan.base.name != DEFAULT_BASE)
    return shlex.join(words)
