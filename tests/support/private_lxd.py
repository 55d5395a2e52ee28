"""A second LXD beside that of this machine. Its daemon may be killed, and its network cut."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from craft_providers.lxd import LXC
from craft_providers.lxd.project import create_with_default_profile
from fault_tools import SETUP, adopt_base, present_base, remove_project, usable_in
from file_systems import as_root

from slurm_factory.config import Settings
from slurm_factory.host.networks import bridge_address, free_subnet
from slurm_factory.host.probe import probe
from slurm_factory.instances.base import PresentBase, base_instance_name
from slurm_factory.instances.lxc import LONG_SECONDS, lxc, lxc_json, project_exists

BRIDGE = "sf-faults"
SCRIPT = Path(__file__).with_name("private-lxd.sh")
PROJECT = "faults"
"""Has a copy of the base instance that the machine's own LXD has, and the image."""


@dataclass(frozen=True)
class PrivateLXD:
    """The daemon whose LXD_DIR is `directory` (host), which its instances' root can enter."""

    directory: Path

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        subnet = free_subnet(probe().taken)
        assert subnet is not None
        self._script("start", bridge_address(subnet))

    def kill(self) -> None:
        """What a crash does: its instances run on."""
        self._script("kill")

    def remove(self) -> None:
        """Remove it with all that it has."""
        with self.in_use():
            for project in lxc_json("project", "list", project="default"):
                if project["name"] != "default":
                    remove_project(project["name"])
        self._script("remove")

    def fill(self, settings: Settings, scratch: Path) -> None:
        """Give it what builds need: the base instance and the image of the machine's own LXD.

        Args:
            settings: Of the site whose LXD has them, or gets them now.
            scratch: Directory for a copy of both (host).
        """
        with self.in_use():
            if project_exists(PROJECT) and usable_in(PROJECT):
                return
        with self._not_in_use():
            base = present_base(settings)
            tarball, images = _export(base, settings.project_name, scratch)
        with self.in_use():
            create_with_default_profile(project=PROJECT, lxc=LXC())
            copy = base_instance_name(SETUP, base.image, PROJECT)
            lxc("import", str(tarball), copy, project=PROJECT, timeout=LONG_SECONDS)
            adopt_base(copy, settings.project_name, PROJECT)
            if images and not lxc_json("image", "list", project=PROJECT):
                alias = ("--alias", base.image.alias)
                lxc("image", "import", *images, *alias, project=PROJECT, timeout=LONG_SECONDS)
        tarball.unlink()
        shutil.rmtree(scratch / "image", ignore_errors=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Every lxc and every build in the block uses this one."""
        with _lxd_directory(str(self.directory)):
            yield

    @contextmanager
    def _not_in_use(self) -> Iterator[None]:
        with _lxd_directory(None):
            yield

    def _script(self, action: str, address: str = "") -> None:
        as_root(str(SCRIPT), action, str(self.directory), address)


@contextmanager
def _lxd_directory(directory: str | None) -> Iterator[None]:
    before = os.environ.pop("LXD_DIR", None)
    if directory:
        os.environ["LXD_DIR"] = directory
    try:
        yield
    finally:
        os.environ.pop("LXD_DIR", None)
        if before:
            os.environ["LXD_DIR"] = before


def _export(base: PresentBase, project: str, scratch: Path) -> tuple[Path, list[str]]:
    """Files of a base instance, and of its image where it was made on this machine."""
    tarball, directory = scratch / "base.tar", scratch / "image"
    whither = (str(tarball), "--compression", "none")
    lxc("export", base.name, *whither, project=project, timeout=LONG_SECONDS)
    if base.image.remote != "local":
        return tarball, []
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    export = ("image", "export", base.image.alias, str(directory / "image"))
    lxc(*export, project=project, timeout=LONG_SECONDS)
    return tarball, sorted(str(path) for path in directory.iterdir())


def cut_network() -> None:
    """Take the switch out of the bridge: what instances send goes nowhere."""
    as_root("ip", "link", "set", "dev", BRIDGE, "down")


def mend_network() -> None:
    """Put it back."""
    as_root("ip", "link", "set", "dev", BRIDGE, "up")
