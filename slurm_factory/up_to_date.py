"""Whether a finished artifact is what a plan would make again. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory.exceptions import OutputError
from slurm_factory.package.manifest import Manifest, load_manifest
from slurm_factory.package.publish import finish_publishing, problem_with
from slurm_factory.plan.base_setup import load_record

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.plan.plan import BuildPlan


@dataclass(frozen=True)
class Outcome:
    """What a build left behind.

    Attributes:
        manifest_path: Of the artifact (host); the files it lists lie beside it.
        manifest: Its content.
        up_to_date: True if nothing had to be built.
        log: The build log (host), if something was built.
    """

    manifest_path: Path
    manifest: Manifest
    up_to_date: bool
    log: Path | None = None


def find_up_to_date(plan: BuildPlan, settings: Settings) -> Outcome | None:
    """The finished artifact that this plan would make again, if there is one."""
    record = base_record(plan, settings)
    path = settings.builds_dir / plan.version / f"{plan.stem}-manifest.json"
    if not record:
        return None
    finish_publishing(path.parent)
    try:
        manifest = load_manifest(path)
    except OutputError:
        return None
    if manifest.build_key != plan.build_key(record) or problem_with(manifest, path.parent):
        return None
    return Outcome(path, manifest, up_to_date=True)


def base_record(plan: BuildPlan, settings: Settings) -> Mapping[str, Any]:
    """What the base of `plan` contains, as far as that is known."""
    if plan.destructive:
        from slurm_factory.instances.this_machine import machine_record  # noqa: PLC0415  # slow to import

        return machine_record(plan.base)
    return load_record(plan.setup, settings.images_dir) or {}
