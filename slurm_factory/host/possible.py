"""Whether LXD can run on this machine at all, set up or not."""

from __future__ import annotations

import os
import re
from pathlib import Path

from slurm_factory.host.commands import run
from slurm_factory.host.facts import Daemon, Privilege
from slurm_factory.host.probe import (
    SUDO,
    probe_flavour,
    probe_lxd,
    probe_privilege,
    socket_permitted,
)

CAP_SYS_ADMIN = 21
"""Number of the capability in capabilities(7), <linux/capability.h>."""

PROC_STATUS = Path("/proc/self/status")
MAX_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")


def why_lxd_cannot_run() -> str | None:
    """The reason why no setup could make LXD run here, None where it runs or could.

    A machine on which LXD is merely not installed or not started gives None.
    """
    if socket_permitted() and probe_lxd()[0] is Daemon.ANSWERING:
        return None
    privilege = probe_privilege()
    if privilege is Privilege.NONE:
        state = "this user may not use LXD" if probe_flavour() else "LXD is not installed"
        return f"{state}, and this user may not become root to change that"
    if not has_capability(PROC_STATUS.read_text(), CAP_SYS_ADMIN, effective=os.geteuid() == 0):
        return "this machine is a container without CAP_SYS_ADMIN"
    if "cgroup" not in Path("/proc/filesystems").read_text():
        return "this kernel has no control groups"
    return _why_no_user_namespaces(privilege)


def has_capability(status: str, number: int, *, effective: bool) -> bool:
    """Whether a process has a capability, or (not `effective`) could get it through sudo.

    Args:
        status: Text of /proc/PID/status (proc(5)).
        number: The capability's number.
        effective: Ask the effective set rather than the bounding set.
    """
    field = "CapEff" if effective else "CapBnd"
    found = re.search(rf"^{field}:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> number & 1)


def _why_no_user_namespaces(privilege: Privilege) -> str | None:
    if MAX_USER_NAMESPACES.exists() and int(MAX_USER_NAMESPACES.read_text()) == 0:
        return "user namespaces are switched off (user.max_user_namespaces=0)"
    prefix = SUDO if privilege is Privilege.SUDO else ()
    outcome = run([*prefix, "unshare", "--user", "true"])
    return None if outcome.ok else f"no user namespace can be made: {outcome.errors.strip()}"
