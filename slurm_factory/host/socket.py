"""The socket of LXD's daemon, whose state is clearer than lxc's messages.

lxc of Debian 13 prints "The LXD daemon doesn't appear to be started" both if the daemon does not
run and if this user may not use it.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from slurm_factory.host.facts import Daemon

DEBIAN_SOCKET = Path("/var/lib/lxd/unix.socket")
SNAP_SOCKET = Path("/var/snap/lxd/common/lxd/unix.socket")
"""Directories in which craft-providers and lxc look, besides LXD_DIR."""
CONNECT_SECONDS = 2.0


def socket_path() -> Path | None:
    """The daemon's socket (host), if there is one (client of LXD: LXD_DIR, else these two)."""
    chosen = os.environ.get("LXD_DIR")
    places = (Path(chosen) / "unix.socket",) if chosen else (SNAP_SOCKET, DEBIAN_SOCKET)
    for place in places:
        try:
            if place.exists():
                return place
        except PermissionError:
            return place
    return None


def socket_state() -> Daemon:
    """Whether the daemon accepts this process's connections; with `denied`, it is unknown
    whether it runs. If systemd listens for the daemon, connecting starts it, as any lxc command
    would.
    """
    path = socket_path()
    if path is None:
        return Daemon.STOPPED
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CONNECT_SECONDS)
        try:
            client.connect(str(path))
        except PermissionError:
            return Daemon.DENIED
        except (ConnectionRefusedError, FileNotFoundError):
            return Daemon.STOPPED
        except OSError:
            return Daemon.SILENT
    return Daemon.ANSWERING
