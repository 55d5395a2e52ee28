"""The configuration of the cluster in which a package is tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, StrictUndefined

from slurm_factory import resources

if TYPE_CHECKING:
    from slurm_factory.verify.tree import Tree

NODES = ("node1", "node2", "node3")
"""Compute nodes (resources/verify/lib.sh)."""
OLD_CGROUPS = ("23.02", "23.11")
"""Series that do not know `CgroupPlugin=disabled` (src/interfaces/cgroup.c)."""


def no_cgroups(series: str) -> str:
    """The value of `CgroupPlugin` for a cluster without cgroups, as a series names it."""
    return "cgroup/v1" if series in OLD_CGROUPS else "disabled"


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

    cluster = "live"
    nodes = NODES

    @property
    def tokens(self) -> bool:
        """JSON Web Tokens."""
        return self.tree.has_plugin("auth_jwt")

    @property
    def accounting(self) -> bool:
        """By slurmdbd in MariaDB."""
        return self.tree.has_plugin("accounting_storage_mysql")

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
        given = {variable: self._render(f"{name}.j2") for variable, name in names.items()}
        return {**given, "CONFIGLESS": "1" if self.configless else "0"}

    def _render(self, template: str) -> str:
        # The output is no HTML.
        environment = Environment(  # noqa: S701
            undefined=StrictUndefined, keep_trailing_newline=True
        )
        return environment.from_string(resources.template(template)).render(site=self)
