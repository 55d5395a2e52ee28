"""Which base instances are there and can be copied, their names, and the lock of each."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from craft_providers import lxd
from craft_providers.executor import get_instance_name

from slurm_factory.base_record import BASE_LIFE, record_path
from slurm_factory.instances.base import compatibility_tag
from slurm_factory.instances.images import ImageName, candidates
from slurm_factory.instances.lxc import created, instance_entries, instance_names, is_finished

if TYPE_CHECKING:
    from slurm_factory.base_record import BaseSetup
    from slurm_factory.config import Settings


def needs_base(setup: BaseSetup, architecture: str, settings: Settings) -> bool:
    """Whether a launch would have to make the base instance first.

    Args:
        setup: What it is made of.
        architecture: As uname(1) names it.
        settings: Of this site.

    Raises:
        LXDError: LXD cannot be asked.
    """
    return not usable_images(setup, architecture, settings.project_name)


def base_instance_name(setup: BaseSetup, image: ImageName, project: str) -> str:
    """Name under which craft-providers keeps the base instance (lxd/launcher.py)."""
    return get_instance_name(_full_name(setup, image, project), lxd.LXDError)


def present_bases(setup: BaseSetup, architecture: str, project: str) -> list[str]:
    """Names of the base instances of `setup` that are there, in whatever state.

    Args:
        setup: What they are made of.
        architecture: As uname(1) names it.
        project: LXD project.

    Raises:
        LXDError: LXD cannot be asked.
    """
    present = instance_names(project)
    images = candidates(setup.base, architecture)
    names = (base_instance_name(setup, image, project) for image in images)
    return [name for name in names if name in present]


def usable_images(setup: BaseSetup, architecture: str, project: str) -> list[ImageName]:
    """Images of those base instances of `setup` that a launch would copy.

    A name and an age are not enough: a base whose maker was killed has both. It keeps the status of
    its making, or, killed in between, is marked as finished without its full name, which
    craft-providers notes last (lxd/launcher.py, `_create_instance`).

    Args:
        setup: What they are made of.
        architecture: As uname(1) names it.
        project: LXD project.

    Raises:
        LXDError: LXD cannot be asked.
    """
    present = {entry["name"]: entry for entry in instance_entries(project)}
    oldest = datetime.now(UTC) - BASE_LIFE
    usable = []
    for image in candidates(setup.base, architecture):
        entry = present.get(base_instance_name(setup, image, project))
        if entry is None or not is_finished(entry) or created(entry) < oldest:
            continue
        if entry["config"].get("image.description") == _full_name(setup, image, project):
            usable.append(image)
    return usable


def _full_name(setup: BaseSetup, image: ImageName, project: str) -> str:
    tag = compatibility_tag(setup, project)
    return f"base-instance-{tag}-{image.remote}-{image.alias}"


def base_lock(setup: BaseSetup, images_dir: Path) -> Path:
    """The file that is locked while a base is made, copied or deleted (host).

    It belongs to the setup and not to the name of the instance, since the image that the name
    tells is chosen under the lock. It lies beside the base's record, and goes with it in `clean`.

    Args:
        setup: What the base is made of.
        images_dir: Directory of the records (host).
    """
    return Path(f"{record_path(setup, images_dir)}.lock")
