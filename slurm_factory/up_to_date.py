"""Whether a finished artifact is up to date for a plan. Fast to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory.exceptions import OutputError
from slurm_factory.package.file_names import file_names
from slurm_factory.package.manifest import Manifest, load_manifest
from slurm_factory.package.publish import finish_publishing, problem_with
from slurm_factory.plan.base_setup import load_record, load_records

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.plan.plan import BuildPlan


@dataclass(frozen=True)
class Outcome:
    """The result of a build.

    Attributes:
        manifest_path: Manifest of the artifact (host), beside the files that it lists.
        manifest: Its content.
        up_to_date: True if there was nothing to build.
        log: The build log (host), if there was something to build.
    """

    manifest_path: Path
    manifest: Manifest
    up_to_date: bool
    log: Path | None = None


def find_up_to_date(plan: BuildPlan, settings: Settings) -> Outcome | None:
    """The finished artifact that is up to date for this plan, if any.

    Any current base may have made it, also that of a member of a remote.
    """
    records: Sequence[Mapping[str, Any]] = (
        [base_record(plan, settings)]
        if plan.destructive
        else load_records(plan.setup, settings.images_dir)
    )
    path = settings.builds_dir / plan.requested / file_names(plan.stem).manifest
    if not any(records):
        return None
    finish_publishing(path.parent)
    try:
        manifest = load_manifest(path)
    except OutputError:
        return None
    keys = {plan.build_key(record) for record in records if record}
    if manifest.build_key not in keys or problem_with(manifest, path.parent):
        return None
    return Outcome(path, manifest, up_to_date=True)


def base_record(plan: BuildPlan, settings: Settings) -> Mapping[str, Any]:
    """The content of the base of `plan` on this machine, if known."""
    if plan.destructive:
        from slurm_factory.instances.this_machine import machine_record  # noqa: PLC0415  # slow to import

        return machine_record(plan.base)
    return load_record(plan.setup, settings.images_dir) or {}
