"""Ends a unit test that starts a program which changes the machine, or leaves the loopback network.

An audit hook (PEP 578) sees every way in which Python can do either, independent of imports. It
cannot be taken away again, so that it asks whether protection is on.
"""

import ipaddress
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = frozenset(
    {
        "apt",
        "apt-get",
        "aptitude",
        "dpkg",
        "lxc",
        "lxd",
        "mmdebstrap",
        "mount",
        "service",
        "snap",
        "sudo",
        "sysctl",
        "systemctl",
        "usermod",
    }
)
RUNNERS = frozenset({"env", "nice", "nohup", "setsid", "sg", "stdbuf", "timeout"})
"""Programs that run another one, which their arguments name."""


class GuardError(AssertionError):
    """A unit test reached for the machine."""


class _Protection:
    """Whether the hook is active, and below which directory (host) stand-ins may run."""

    sandbox: Path | None = None


@contextmanager
def protected(sandbox: Path) -> Iterator[None]:
    """Forbid what changes the machine, except programs that lie below `sandbox` (host)."""
    _Protection.sandbox = sandbox.resolve()
    try:
        yield
    finally:
        _Protection.sandbox = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _Protection.sandbox is not None and event in _CHECKS:
        _CHECKS[event](_Protection.sandbox, *arguments)


def _check_program(
    sandbox: Path, program: Any, argv: Sequence[Any], _directory: Any, environment: Any
) -> None:
    """`subprocess.Popen` reports the program, its arguments, directory and environment."""
    words = [os.fsdecode(word) for word in (program, *argv[1:])]
    candidates = words if Path(words[0]).name in RUNNERS else words[:1]
    if "sh" in words:
        # Whole scripts name what they do not run, too.
        candidates = [name for word in words if "\n" not in word for name in word.split()]
    path = (environment or os.environ).get("PATH")
    for word in candidates:
        found = shutil.which(word, path=path) if Path(word).name in PROGRAMS else None
        if found and sandbox not in Path(found).resolve().parents:
            raise GuardError(f"A unit test must not run {found}.")


def _check_command_line(_sandbox: Path, command: Any) -> None:
    raise GuardError(f"A unit test must not use os.system: {command!r}.")


def _check_address(_sandbox: Path, _socket: socket.socket, address: Any) -> None:
    """`socket.connect` reports (host, port, …), or the path of a Unix socket."""
    if isinstance(address, tuple):
        _check_host(_sandbox, address[0])
    elif b"lxd" in os.fsencode(address):
        raise GuardError(f"A unit test must not connect to {address!r}.")


def _check_host(_sandbox: Path, host: Any, *_rest: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in {None, "", "localhost"}:
        return
    if name.endswith(".invalid"):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    try:
        local = ipaddress.ip_address(name).is_loopback
    except ValueError:
        local = False
    if not local:
        raise GuardError(f"A unit test must not reach {name}.")


_CHECKS: dict[str, Callable[..., None]] = {
    "subprocess.Popen": _check_program,
    "os.system": _check_command_line,
    "socket.connect": _check_address,
    "socket.getaddrinfo": _check_host,
    "socket.gethostbyname": _check_host,
}

sys.addaudithook(_hook)
