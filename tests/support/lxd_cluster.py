"""A cluster of LXD members on this machine (lxd-cluster.sh), with bases of its own LXD."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from craft_providers.lxd import LXC
from craft_providers.lxd.project import create_with_default_profile
from fault_tools import SETUP, present_base
from file_systems import as_root

from slurm_factory.config import Settings
from slurm_factory.instances.base import base_instance_name, compatibility_tag
from slurm_factory.instances.lxc import LONG_SECONDS, lxc, lxc_json, project_exists
from slurm_factory.instances.remote import open_remote
from slurm_factory.job import Place

REMOTE = "farm"
MEMBERS = ("m1", "m2", "m3")
IMPORTED = "imported"
SCRIPT = Path(__file__).with_name("lxd-cluster.sh")


@dataclass(frozen=True)
class Cluster:
    """The cluster in a directory (host), which its instances' root can enter."""

    directory: Path
    project: str

    @property
    def configuration(self) -> Path:
        """Of lxc, with the remote."""
        return self.directory / "client"

    def start(self) -> None:
        """Start all members, and wait until they answer."""
        as_root(str(SCRIPT), "start", str(self.directory))

    def kill(self, member: str) -> None:
        """What a power failure does."""
        as_root(str(SCRIPT), "kill", str(self.directory), member)

    def revive(self, member: str) -> None:
        """Start a member again."""
        as_root(str(SCRIPT), "revive", str(self.directory), member)

    def remove(self) -> None:
        """Remove it with all that it has."""
        as_root(str(SCRIPT), "remove", str(self.directory))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Every lxc in the block uses the cluster."""
        before = os.environ.get("LXD_CONF")
        os.environ["LXD_CONF"] = str(self.configuration)
        try:
            with open_remote(REMOTE, self.directory / "notes"):
                yield
        finally:
            del os.environ["LXD_CONF"]
            if before:
                os.environ["LXD_CONF"] = before

    def names(self, *command: str) -> list[str]:
        """What `lxc COMMAND list` names in the project."""
        with self.in_use():
            if not project_exists(self.project):
                return []
            found = lxc_json(*command, "list", "local:", project=self.project)
        return [str(entry["name"]) for entry in found]

    def location(self, name: str) -> str:
        """The member that an instance is on."""
        with self.in_use():
            listed = lxc_json("list", "local:", project=self.project)
        return next(str(entry["location"]) for entry in listed if entry["name"] == name)

    def fill(self, settings: Settings, scratch: Path) -> None:
        """Give each member a copy of the base instance of this machine's own LXD: to make one takes
        minutes.

        Args:
            settings: Of the site whose LXD has it, or gets it now.
            scratch: Directory for a copy (host).
        """
        base, tarball = present_base(settings), scratch / "base.tar"
        whither = (str(tarball), "--compression", "none")
        lxc("export", base.name, *whither, project=settings.project_name, timeout=LONG_SECONDS)
        with self.in_use():
            create_with_default_profile(project=self.project, lxc=LXC())
            self._lxc("import", "local:", str(tarball), IMPORTED)
            for member in MEMBERS:
                place = Place(member, "x86_64", 1, 1, clustered=True)
                copy = f"local:{base_instance_name(SETUP, base.image, self.project, place)}"
                self._lxc("copy", f"local:{IMPORTED}", copy, "--target", member)
                self._adopt(copy, settings.project_name, place)
            self._lxc("delete", f"local:{IMPORTED}")
        tarball.unlink()

    def _lxc(self, *command: str) -> None:
        lxc(*command, project=self.project, timeout=LONG_SECONDS)

    def _adopt(self, copy: str, old_project: str, place: Place) -> None:
        """Let builds take a copy of a base for one of their own."""
        old = compatibility_tag(SETUP, old_project)
        new = compatibility_tag(SETUP, self.project, place)
        path = f"{copy}/etc/craft-instance.conf"
        record = lxc("file", "pull", path, "-", project=self.project)
        lxc("file", "push", "-", path, project=self.project, stdin=record.replace(old, new))
        name = lxc("config", "get", copy, "image.description", project=self.project).strip()
        change = f"image.description={name.replace(old, new)}"
        lxc("config", "set", copy, change, project=self.project)
