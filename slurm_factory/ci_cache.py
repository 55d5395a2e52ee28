"""What a build leaves for later ones on other machines: the cache of continuous integration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurm_factory.cache_dir import MARK
from slurm_factory.constants import APPLICATION
from slurm_factory.plan.base_setup import record_path, setup_digest
from slurm_factory.recipes.ccache import cache_name
from slurm_factory.up_to_date import base_record

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.config import Settings
    from slurm_factory.plan.plan import BuildPlan

KEY_DIGITS = 16


@dataclass(frozen=True)
class CiCache:
    """A cache of continuous integration, as `build --dry-run --json` prints it.

    Attributes:
        key: Name of a cache that leaves nothing to build. It holds the build key, which needs the
            record of the base: without a base instance, it is another one after the build.
        restore_keys: Beginnings of the names of caches that save time, the best first.
        paths: What to keep (host): directories, the mark of the cache directory, without which a
            directory with content is refused, and in LXD the record of the base. The same for all
            caches whose names begin as one of `restore_keys`.
    """

    key: str
    restore_keys: tuple[str, ...]
    paths: tuple[Path, ...]


def ci_cache(plan: BuildPlan, settings: Settings) -> CiCache:
    """The cache of a plan.

    Raises:
        LXDError: This machine builds, and dpkg does not answer.
    """
    same_recipes = f"{_machines(plan)}-"
    # Objects in a compiler cache serve the same sources only. The dot ends its name, which in turn
    # may begin as that of another one.
    same_sources = f"{same_recipes}{cache_name(plan)}."
    key = plan.build_key(base_record(plan, settings))[:KEY_DIGITS]
    # Without results of configure: they serve the same build key only.
    paths = [settings.cache_dir / MARK, settings.builds_dir]
    paths += [settings.ccache_dir, settings.source_cache_dir]
    if not plan.destructive:
        paths.append(record_path(plan.setup, settings.images_dir))
    if plan.spack is None:
        return CiCache(f"{same_sources}{key}", (same_sources,), tuple(paths))
    # Packages of Spack serve other releases of Slurm, too.
    paths += [settings.cache_dir / name for name in plan.spack.local_buildcaches]
    paths += [settings.spack_checkouts_dir, settings.spack_locks_dir, settings.spack_misc_dir]
    return CiCache(f"{same_sources}{key}", (same_sources, same_recipes), tuple(paths))


def _machines(plan: BuildPlan) -> str:
    """Names what the caches of a plan are for: machines, recipe and base."""
    compiled_on = f"-on-{plan.machine}" if plan.is_cross else ""
    parts = [APPLICATION, f"{plan.architecture}{compiled_on}", plan.deps.value, plan.base.slug]
    if plan.spack:
        parts += [plan.spack.target, setup_digest(plan.setup)]
    return "-".join(parts)
