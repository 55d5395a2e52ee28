"""The configuration of the cluster in which a package is tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from slurm_factory.package.deployment import no_cgroups
from slurm_factory.package.templates import render

if TYPE_CHECKING:
    from slurm_factory.package.tree import Tree

NODES = ("node1", "node2", "node3")
"""Compute nodes (resources/verify/lib.sh)."""

Auth = Literal["munge", "slurm"]


@dataclass(frozen=True)
class Site:
    """What the configuration says, from what a tree has.

    Names that a series does not know, and plugins that the tree lacks, make daemons refuse to
    start.

    Attributes:
        tree: What the tree has.
        controller: Host name of the controller.
        cpus: CPUs of each node.
        auth: How the daemons know each other.
    """

    tree: Tree
    controller: str
    cpus: int
    auth: Auth = "munge"

    trial = True
    cluster = "live"
    token_key = "/var/spool/slurmctld/jwt.key"  # noqa: S105  # a path
    slurmd_pid = "/run/slurmd.%n.pid"
    slurmd_log = "/var/log/slurm/slurmd.%n.log"
    # Slurm refuses X11 and containment with linuxproc, and cgroups need controllers.
    proctrack = "proctrack/pgid"
    task_plugin = "task/affinity"
    gather = "jobacct_gather/linux"
    select = "CR_CPU"
    database = "slurm_acct"
    password = "secret"  # noqa: S105  # of a cluster that is deleted

    @property
    def node_lines(self) -> tuple[str, ...]:
        """Descriptions of the nodes."""
        rest = f"CPUs={self.cpus} RealMemory=256 State=UNKNOWN"
        return tuple(f"NodeName={node} {rest}" for node in NODES)

    @property
    def lua(self) -> bool:
        """job_submit.lua."""
        return self.tree.has_plugin("job_submit_lua")

    @property
    def encrypted(self) -> bool:
        """TLS between all daemons and commands."""
        return self.tree.has_plugin("tls_s2n")

    @property
    def configless(self) -> bool:
        """Whether the last node has no configuration; with TLS it would need a certificate."""
        return not self.encrypted

    @property
    def prolog_flags(self) -> str:
        """Steps that hold what users bring into a job by X11 or ssh."""
        return "X11" if self.tree.x11 else "Contain"

    @property
    def cgroup_plugin(self) -> str:
        """None."""
        return no_cgroups(self.tree.series)

    def files(self) -> dict[str, str]:
        """Variables for configure.sh: the content of each file of the configuration."""
        names = {"SLURM_CONF": "slurm.conf", "SLURMDBD_CONF": "slurmdbd.conf"}
        names |= {"CGROUP_CONF": "cgroup.conf"}
        given = {variable: render(f"{name}.j2", site=self) for variable, name in names.items()}
        return {**given, "CONFIGLESS": "1" if self.configless else "0"}
