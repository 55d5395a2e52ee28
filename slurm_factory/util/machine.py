"""Memory, proxies and CA certificates of this machine."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

MEMINFO = Path("/proc/meminfo")
KIB = 1024


def available_memory(meminfo: str | None = None) -> int:
    """MemAvailable in bytes; 0 if the kernel does not report it (proc(5)).

    Args:
        meminfo: Text of /proc/meminfo; None: this machine's.
    """
    text = MEMINFO.read_text() if meminfo is None else meminfo
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * KIB if found else 0


PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy variables that are set, by their lower-case names.

    The lower-case spelling takes precedence, as in curl(1), which supports no other for
    `http_proxy`.
    """
    values = {name: environ.get(name) or environ.get(name.upper()) for name in PROXY_VARIABLES}
    return {name: value for name, value in values.items() if value}


def proxy_host(proxy: str) -> str | None:
    """The host of a proxy, which needs no scheme (curl(1)); None if it contains no host."""
    try:
        return urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname or None
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host name or an address means this machine."""
    if host.lower().rstrip(".").rpartition(".")[2] == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        # Resolvers treat 127.1 as 127.0.0.1 (inet_aton(3)).
        return host.startswith("127.") and host.replace(".", "").isdecimal()
    return address.is_loopback or address.is_unspecified


def certificates_in(directory: Path) -> tuple[Path, ...]:
    """All `*.crt` files in and below a host directory, sorted; none if it does not exist."""
    return tuple(sorted(directory.rglob("*.crt"))) if directory.is_dir() else ()
