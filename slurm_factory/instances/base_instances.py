"""Which base instances are there and can be copied, their names, and the lock of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from craft_providers import lxd
from craft_providers.executor import get_instance_name

from slurm_factory.base_record import BASE_LIFE, record_path
from slurm_factory.instances.base import compatibility_tag
from slurm_factory.instances.images import ImageName, candidates
from slurm_factory.instances.lxc import created, is_finished, list_instances

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
    entries = list_instances(settings.project_name)
    return not usable_bases(setup, architecture, settings.project_name, entries)


def base_instance_name(setup: BaseSetup, image: ImageName, project: str) -> str:
    """Name under which craft-providers keeps the base instance (lxd/launcher.py)."""
    return get_instance_name(_full_name(setup, image, project), lxd.LXDError)


@dataclass(frozen=True)
class PresentBase:
    """A base instance that is there: its entry in `lxc list`, and the image it is from."""

    entry: Mapping[str, Any]
    image: ImageName

    @property
    def name(self) -> str:
        """Of the instance."""
        return str(self.entry["name"])


def present_bases(
    setup: BaseSetup, architecture: str, project: str, entries: Iterable[Mapping[str, Any]]
) -> list[PresentBase]:
    """The base instances of `setup` that are there, in whatever state.

    Args:
        setup: What they are made of.
        architecture: As uname(1) names it.
        project: LXD project.
        entries: Of all instances in it (`lxc.list_instances`).
    """
    by_name = {entry["name"]: entry for entry in entries}
    images = candidates(setup.base, architecture)
    named = [(base_instance_name(setup, image, project), image) for image in images]
    return [PresentBase(by_name[name], image) for name, image in named if name in by_name]


def usable_bases(
    setup: BaseSetup, architecture: str, project: str, entries: Iterable[Mapping[str, Any]]
) -> list[PresentBase]:
    """Those of `present_bases` that a launch would copy; the arguments are the same.

    A name and an age are not enough: a base whose maker was killed has both. It keeps the status of
    its making, or, killed in between, is marked as finished without its full name, which
    craft-providers notes last (lxd/launcher.py, `_create_instance`).
    """
    oldest = datetime.now(UTC) - BASE_LIFE
    return [
        base
        for base in present_bases(setup, architecture, project, entries)
        if is_finished(base.entry)
        and created(base.entry) >= oldest
        and base.entry["config"].get("image.description") == _full_name(setup, base.image, project)
    ]


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
