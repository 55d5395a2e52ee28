"""The LXD project that holds all instances and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from craft_providers import lxd
from craft_providers.lxd.project import create_with_default_profile

from slurm_factory.instances.locks import locked
from slurm_factory.instances.lxc import project_exists
from slurm_factory.instances.provider_errors import provider_errors

if TYPE_CHECKING:
    from slurm_factory.config import Settings

LOCK = "project.lock"
"""In the directory of images; one for all projects, since making one takes a second."""


def ensure_project(settings: Settings, on_line: Callable[[str], None]) -> None:
    """Make the LXD project with the profile of LXD's default one, unless it is there.

    craft-providers bears with another process that makes the same project (`project_create` in
    lxd/lxc.py), and both then write the same profile. But it makes the project first and gives it
    its profile then (lxd/project.py): whoever sees it in between has a project whose instances get
    neither disk nor network. So nobody looks while another build may be making it.

    Args:
        settings: Of this site.
        on_line: Takes the line that says that this waits.

    Raises:
        LXDError: LXD cannot be asked, or turned the project down.
        ProviderError: It may work the next time (`provider_errors.TransientError`).
    """
    project = settings.project_name
    with locked(settings.images_dir / LOCK, f"the LXD project {project}", on_line):
        if not project_exists(project):
            with provider_errors():
                create_with_default_profile(project=project, lxc=lxd.LXC())
