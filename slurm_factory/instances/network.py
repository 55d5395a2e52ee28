"""What of this machine instances get to reach the network: proxies, certificates, sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.instances.images import ImageName, mirror_of, sources_list
from slurm_factory.util.machine import is_loopback, proxies, proxy_host

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.plan.bases import Base


@dataclass(frozen=True)
class Network:
    """What of the host an instance needs to reach the network."""

    proxies: dict[str, str] = field(default_factory=dict)
    """http_proxy, https_proxy, no_proxy and their like, as they are set on the host."""
    certificates: tuple[Path, ...] = ()
    """Further CA certificates (host)."""
    sources_list: str = ""
    """Lines for apt, where the image's own shall not be used."""
    reach: str = "deb.debian.org"
    """Host name that must resolve inside: that of the archive, or of the proxy before it; empty:
    no network is needed."""


def both_spellings(environ: Mapping[str, str]) -> dict[str, str]:
    """Proxy variables of `environ`, in both spellings, since programs differ in what they read."""
    given = proxies(environ)
    return given | {name.upper(): value for name, value in given.items()}


def find_network(base: Base, image: ImageName, settings: Settings) -> Network:
    """What an instance of `base` needs here.

    Args:
        base: The distribution.
        image: What it is made from; one that was made here has no list of sources of its own.
        settings: Of this site.

    Raises:
        ConfigurationError: A proxy is set that no instance can reach.
    """
    given = both_spellings(os.environ)
    for name, value in proxies(os.environ).items():
        if name != "no_proxy":
            _require_reachable(name, value)
    proxy = given.get("http_proxy") or given.get("https_proxy")
    certificates = (
        tuple(sorted(settings.ca_certificates.rglob("*.crt")))
        if settings.ca_certificates.is_dir()
        else ()
    )
    set_mirrors = {"debian": settings.debian_mirror, "ubuntu": settings.ubuntu_mirror}
    own_sources = image.remote == "local" or set_mirrors[base.distribution]
    return Network(
        proxies=given,
        certificates=certificates,
        sources_list=sources_list(base, settings) if own_sources else "",
        reach=(proxy and proxy_host(proxy))
        or urlsplit(mirror_of(base, settings)).hostname
        or "deb.debian.org",
    )


def _require_reachable(name: str, proxy: str) -> None:
    """Refuse a proxy that an instance cannot reach; `name` is that of its variable."""
    host = proxy_host(proxy)
    if host is None:
        raise ConfigurationError(
            f"{name} is not the address of a proxy.",
            details="It is set in the environment, and no host can be read from it.",
            resolution=f"Set {name} to http://HOST:PORT, or unset it.",
        )
    if is_loopback(host):
        raise ConfigurationError(
            f"The proxy {host} cannot be reached from an instance.",
            details=f"{name} names this machine's loopback address.",
            resolution="Set it to an address of this machine that instances can reach.",
        )
