"""The LXD project that holds all instances and images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from craft_providers import lxd
from craft_providers.lxd.project import create_with_default_profile

from slurm_factory.instances.locks import locked
from slurm_factory.instances.lxc import LOCAL, lxc_json, project_exists
from slurm_factory.instances.provider_errors import provider_errors

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output import Reporter

LOCK = "project.lock"
"""In the directory of images; one for all projects, since making one takes a second."""


def ensure_project(settings: Settings, reporter: Reporter) -> None:
    """Make the LXD project with the profile of LXD's default one, unless it is there.

    craft-providers makes the project first and gives it its profile then (lxd/project.py): whoever
    sees it in between has a project whose instances get neither disk nor network. So nobody looks
    while another build may be making it, and one whose making was broken off is completed, since
    craft-providers bears with a project that is there (`project_create` in lxd/lxc.py).

    Args:
        settings: Of this site.
        reporter: Is told when this waits.

    Raises:
        LXDError: LXD cannot be asked, or turned the project down.
        ProviderError: craft-providers could not start a command (`provider_errors`).
        OSError: The directory of images cannot be written.
    """
    project = settings.project_name
    with locked(settings.images_dir / LOCK, f"the LXD project {project}", reporter):
        if not (project_exists(project) and _has_devices(project)):
            with provider_errors():
                create_with_default_profile(project=project, lxc=lxd.LXC())


def _has_devices(project: str) -> bool:
    """Whether the default profile of the project gives instances anything."""
    profiles = lxc_json("profile", "list", LOCAL, project=project)
    return any(profile["name"] == "default" and profile["devices"] for profile in profiles)
