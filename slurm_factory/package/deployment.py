"""What a package carries for its deployment: a script, units, a first configuration, facts.

`resources/deploy/deploy.sh` reads these files; they are for people, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory import resources
from slurm_factory.package.templates import render, render_text
from slurm_factory.plan.compiler import cpu_features
from slurm_factory.relocate.tree import make_room
from slurm_factory.util.files import file_errors, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.package.manifest import PackageIdentity

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
        tree: The tree of the package (host).
        series: Series of Slurm.
        x11: Whether Slurm was built to forward X11.
    """

    tree: Path
    series: str
    x11: bool

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
    def tokens(self) -> bool:
        """JSON Web Tokens."""
        return self._has("lib/slurm/auth_jwt.so")

    @property
    def accounting(self) -> bool:
        """By slurmdbd in MariaDB."""
        return self._has("lib/slurm/accounting_storage_mysql.so")

    @property
    def prolog_flags(self) -> str:
        """A step that holds what users bring into a job by X11 or ssh."""
        return "Contain,X11" if self.x11 else "Contain"

    @property
    def notifies(self) -> bool:
        """Whether the daemons tell systemd when they are ready."""
        return self.series not in OLDEST

    @property
    def roles(self) -> tuple[str, ...]:
        """What machines can be with this package."""
        given = {"dbd": self.accounting}
        given |= {"rest": self._has("sbin/slurmrestd"), "login": self._has("sbin/sackd")}
        return ("controller", "compute", *(role for role, there in given.items() if there))

    def _has(self, file: str) -> bool:
        return (self.tree / file).is_file()


def write_deployment(
    tree: Path, identity: PackageIdentity, glibc: str, libraries: Sequence[str], *, x11: bool
) -> None:
    """Write `share/slurm-factory` into a complete tree.

    Args:
        tree: The tree (host).
        identity: Identity of the package.
        glibc: Release of glibc that it needs.
        libraries: Sonames that the machine must have.
        x11: Whether Slurm was built to forward X11.

    Raises:
        OutputError: A file cannot be written.
        VerificationError: Something else is in its place.
    """
    series = identity.series
    site = FirstSite(tree, series, x11)
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
        "series": series,
        "arch": identity.arch,
        "glibc": glibc,
        "cpu": identity.cpu,
        "cpu_features": " ".join(cpu_features(identity.cpu)),
        "libraries": " ".join(libraries),
        "roles": " ".join(site.roles),
        "x11": "yes" if x11 else "no",
        "jwt": "yes" if site.tokens else "no",
        "without_cgroups": no_cgroups(series),
        "rest_without_dbd": "-s v0.0.38" if series in OLDEST else "-s slurmctld",
        "size": str(_size(tree) // KIBIBYTE + 1),
    }
    texts["package.conf"] = "".join(f"{name}={value}\n" for name, value in facts.items())
    with file_errors(tree / DEPLOYMENT):
        for name, text in texts.items():
            write_text(make_room(tree, DEPLOYMENT / name), text)


def _size(tree: Path) -> int:
    """Size of the files of a tree in bytes."""
    return sum(path.lstat().st_size for path in tree.rglob("*") if not path.is_dir())
