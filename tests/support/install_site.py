"""Machines on which a page of the documentation is followed, block by block."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from clean_instance import NEWEST, CleanInstance, clean_copy
from page_blocks import Block, blocks

from slurm_factory.config import Settings
from slurm_factory.instances.lxc import lxc
from slurm_factory.instances.machine import ScriptError
from slurm_factory.package.manifest import load_manifest
from slurm_factory.plan.bases import Distro

MACHINES = ("ctl", "node1", "login1")
PACKAGE_DIRECTORY = PurePosixPath("/root/package")
MODULE_SYSTEMS = {
    "with lmod": "/opt/module-systems/usr/share/lmod/lmod/init/bash",
    "with tcl": "/opt/module-systems/usr/share/modules/init/bash",
}
COPIES_THE_KEY = re.compile(r"scp .*munge\.key")
STEM_OF_THE_PAGE = "slurm-25.11"
MODULE_OF_THE_PAGE = "slurm/25.11"


@dataclass
class Site:
    """The machines, by the names that the page gives them.

    Attributes:
        said: What each block printed, by its text and the machine.
    """

    machines: dict[str, CleanInstance]
    manifest: Path
    said: dict[tuple[str, str], str] = field(default_factory=dict)

    def follow_page(self, page: Path) -> None:
        """Run all blocks of a page in their order.

        Args:
            page: The page (host).

        Raises:
            AssertionError: A command of a block failed; with what the daemons said.
        """
        for block in blocks(page.read_text()):
            if COPIES_THE_KEY.search(block.text):
                self._copy_munge_key()
            for name in block.machines:
                self._run(block, name)

    def printed(self, part: str, machine: str) -> str:
        """What the block that holds `part` printed on a machine."""
        (said,) = (
            said for (text, name), said in self.said.items() if part in text and name == machine
        )
        return said

    def cut_power(self, tree: str) -> None:
        """Take the power from all machines, and give it back; the controller comes last.

        Args:
            tree: Path of the tree on the first machine, the controller.
        """
        next(iter(self.machines.values())).run("settle.sh", tree)
        for instance in self.machines.values():
            lxc("stop", "--force", instance.name, project=instance.project)
        for instance in reversed(self.machines.values()):
            lxc("start", instance.name, project=instance.project)
        for instance in self.machines.values():
            instance.run("boot.sh")

    def _run(self, block: Block, name: str) -> None:
        identity = load_manifest(self.manifest).identity
        text = block.text.replace(MODULE_OF_THE_PAGE, identity.module)
        text = text.replace(STEM_OF_THE_PAGE, identity.stem)
        shell = ["bash", "--noprofile", "--norc", "-c"]
        user = ["runuser", "--user", "alice", "--", "env", "--chdir=/home/alice"]
        home = ["env", f"--chdir={PACKAGE_DIRECTORY}"]
        if block.how in MODULE_SYSTEMS:
            text = f". {MODULE_SYSTEMS[block.how]}\n{text}"
        as_user = block.how == "as a user" or block.how in MODULE_SYSTEMS
        words = [*(user if as_user else home), *shell, f"set -eo pipefail\n{text}"]
        try:
            printed = self.machines[name].execute(f"on {name}: {block.text}", words, {})
        except ScriptError as error:
            raise AssertionError(f"{error}\n{error.output}\n{self.logs()}") from error
        self.said[block.text, name] = printed
        if block.how == "as the node's line":
            self._describe_node(printed)

    def _describe_node(self, printed: str) -> None:
        """Do what the page asks for: the line that the node prints goes into slurm.conf."""
        (line,) = (line for line in printed.splitlines() if line.startswith("NodeName="))
        words = ["sed", "-i", f"s/^NodeName=.*/{line} State=UNKNOWN/", "/etc/slurm/slurm.conf"]
        self.machines["ctl"].execute("the node's line", words, {})

    def _copy_munge_key(self) -> None:
        words = ["base64", "-w0", "/etc/munge/munge.key"]
        key = self.machines["ctl"].execute("the key", words, {})
        for name in list(self.machines)[1:]:
            self.machines[name].run("take-munge-key.sh", key)

    def logs(self) -> str:
        """The last lines of every daemon."""
        return "\n".join(
            f"== {name}\n{instance.run('journal.sh')}" for name, instance in self.machines.items()
        )


@contextmanager
def new_site(
    settings: Settings,
    manifest: Path,
    names: Sequence[str] = MACHINES,
    distro: Distro = NEWEST,
) -> Iterator[Site]:
    """Clean machines that know each other's names, with a build's files (host) on each."""
    with ExitStack() as stack:
        machines = {name: stack.enter_context(clean_copy(settings, distro)) for name in names}
        addresses = [f"{machines[name].run('address.sh').strip()} {name}" for name in names]
        described = load_manifest(manifest)
        for host, instance in machines.items():
            instance.run("become.sh", host, PACKAGE_DIRECTORY, *addresses)
            for name in (*(file.name for file in described.files), manifest.name):
                instance.push(manifest.with_name(name), PACKAGE_DIRECTORY / name)
        yield Site(machines, manifest)
