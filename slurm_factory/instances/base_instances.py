"""Which base instances are there: their names, their images, their age, and the lock of each."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from craft_providers import lxd
from craft_providers.executor import get_instance_name

from slurm_factory.base_record import BASE_LIFE, record_path
from slurm_factory.instances.base import compatibility_tag
from slurm_factory.instances.images import ImageName, candidates
from slurm_factory.instances.lxc import creation_time, instance_names

if TYPE_CHECKING:
    from slurm_factory.base_record import BaseSetup
    from slurm_factory.config import Settings


def needs_base(setup: BaseSetup, architecture: str, settings: Settings) -> bool:
    """Whether a launch would have to make the base instance first: there is none, or it is too old.

    Args:
        setup: What it is made of.
        architecture: As uname(1) names it.
        settings: Of this site.

    Raises:
        LXDError: LXD cannot be asked.
    """
    project = settings.project_name
    names = [name for name, _ in present_bases(setup, architecture, project)[:1]]
    made = creation_time(names[0], project) if names else None
    return made is None or datetime.now(UTC) - made > BASE_LIFE


def base_instance_name(setup: BaseSetup, image: ImageName, project: str) -> str:
    """Name under which craft-providers keeps the base instance (lxd/launcher.py)."""
    name = f"base-instance-{compatibility_tag(setup, project)}-{image.remote}-{image.alias}"
    return get_instance_name(name, lxd.LXDError)


def present_bases(setup: BaseSetup, architecture: str, project: str) -> list[tuple[str, ImageName]]:
    """Names of the base instances of `setup` that are there, with the images they are from.

    Args:
        setup: What they are made of.
        architecture: As uname(1) names it.
        project: LXD project.

    Raises:
        LXDError: LXD cannot be asked.
    """
    present = instance_names(project)
    images = candidates(setup.base, architecture)
    named = [(base_instance_name(setup, image, project), image) for image in images]
    return [(name, image) for name, image in named if name in present]


def base_lock(setup: BaseSetup, images_dir: Path) -> Path:
    """The file that is locked while a base is made, copied or deleted (host).

    It belongs to the setup and not to the name of the instance, since the image that the name
    tells is chosen under the lock. It lies beside the base's record, and goes with it in `clean`.

    Args:
        setup: What the base is made of.
        images_dir: Directory of the records (host).
    """
    return Path(f"{record_path(setup, images_dir)}.lock")
