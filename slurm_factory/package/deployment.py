"""What a package carries for its deployment: a script, units, a first configuration, facts.

`resources/deploy/deploy.sh` reads these files; they are for people, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory import resources
from slurm_factory.constants import ROLES
from slurm_factory.package.templates import render, render_text
from slurm_factory.package.tree import look_at
from slurm_factory.plan.compiler import cpu_features
from slurm_factory.relocate.tree import make_room
from slurm_factory.util.files import file_errors, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.package.manifest import PackageIdentity
    from slurm_factory.package.tree import Tree

DEPLOYMENT = PurePosixPath("share/slurm-factory")
"""Directory of these files in a tree."""
SCRIPT = "deploy.sh"
FORMAT = 1
"""Of package.conf; deploy.sh refuses others."""
OLD_CGROUPS = ("23.02", "23.11")
"""Series that do not know `CgroupPlugin=disabled` (src/interfaces/cgroup.c)."""
OLDEST = ("23.02",)
"""Series whose daemons do not know `--systemd` (slurmd(8)), and whose slurmrestd names its plugins
otherwise (`-s`)."""
PROGRAMS = {"rest": "sbin/slurmrestd", "login": "sbin/sackd"}
"""Of roles, those that a package may lack."""
UNITS = ("munge", "sackd", "slurmctld", "slurmd", "slurmdbd", "slurmrestd")
CONFIGURATION = ("cgroup.conf", "slurm.conf", "slurmdbd.conf")
COPIED = (SCRIPT, "series.txt")
KIBIBYTE = 1024


def no_cgroups(series: str) -> str:
    """The value of `CgroupPlugin` for a cluster without cgroups, as a series names it."""
    return "cgroup/v1" if series in OLD_CGROUPS else "disabled"


@dataclass(frozen=True)
class FirstSite:
    """The first configuration of a cluster; deploy.sh replaces the words between two @.

    Attributes:
        tree: What the tree has.
    """

    tree: Tree

    trial = False
    cluster = "@CLUSTER@"
    controller = "@CONTROLLER@"
    auth = "munge"
    encrypted = False
    configless = True
    token_key = "/etc/slurm/jwt_hs256.key"  # noqa: S105  # a path
    slurmd_pid = "/run/slurm/slurmd.pid"
    slurmd_log = "/var/log/slurm/slurmd.log"
    proctrack = "@PROCTRACK@"
    task_plugin = "@TASK@"
    gather = "@GATHER@"
    cgroup_plugin = "@CGROUP@"
    # With memory, a job that asks for none would take that of the whole node.
    select = "CR_Core"
    database = "slurm_acct_db"
    password = "@PASSWORD@"  # noqa: S105  # deploy.sh makes one
    node_lines = ("@NODES@",)

    @property
    def prolog_flags(self) -> str:
        """A step that holds what users bring into a job by X11 or ssh."""
        return "Contain,X11" if self.tree.x11 else "Contain"

    @property
    def notifies(self) -> bool:
        """Whether the daemons tell systemd when they are ready."""
        return self.tree.series not in OLDEST

    @property
    def roles(self) -> tuple[str, ...]:
        """What machines can be with this package."""
        lacking = {"dbd"} if not self.tree.accounting else set()
        lacking |= {role for role, program in PROGRAMS.items() if not self.tree.has(program)}
        return tuple(role for role in ROLES if role not in lacking)


def write_deployment(
    path: Path, identity: PackageIdentity, glibc: str, libraries: Sequence[str]
) -> None:
    """Write `share/slurm-factory` into a complete tree.

    Args:
        path: The tree (host), with the identity of the package.
        identity: That identity.
        glibc: Release of glibc that it needs.
        libraries: Sonames that the machine must have.

    Raises:
        OutputError: A file cannot be read or written.
        VerificationError: Something else is in its place.
    """
    with file_errors(path, "read"):
        tree = look_at(path)
    site = FirstSite(tree)
    texts = {name: resources.deploy_file(name) for name in COPIED}
    texts["etc/database.sql"] = resources.deploy_file("database.sql")
    texts |= {f"etc/{name}": render(f"{name}.j2", site=site) for name in CONFIGURATION}
    for unit in UNITS:
        template = resources.deploy_file(f"systemd/{unit}.service.j2")
        texts[f"systemd/{unit}.service"] = render_text(template, site=site)
    facts = {
        "format": str(FORMAT),
        "stem": identity.stem,
        "release": identity.release,
        "series": tree.series,
        "arch": identity.arch,
        "glibc": glibc,
        "cpu": identity.cpu,
        "cpu_features": " ".join(cpu_features(identity.cpu)),
        "libraries": " ".join(libraries),
        "roles": " ".join(site.roles),
        "x11": "yes" if tree.x11 else "no",
        "jwt": "yes" if tree.tokens else "no",
        "without_cgroups": no_cgroups(tree.series),
        "rest_without_dbd": "-s v0.0.38" if tree.series in OLDEST else "-s slurmctld",
        "size": str(_size(path) // KIBIBYTE + 1),
    }
    texts["package.conf"] = "".join(f"{name}={value}\n" for name, value in facts.items())
    with file_errors(path / DEPLOYMENT):
        for name, text in texts.items():
            write_text(make_room(path, DEPLOYMENT / name), text)


def _size(tree: Path) -> int:
    """Size of the files of a tree in bytes."""
    return sum(path.lstat().st_size for path in tree.rglob("*") if not path.is_dir())
