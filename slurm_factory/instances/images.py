"""Images for base instances: from LXD's servers, or made here from the archive."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory import resources
from slurm_factory.exceptions import LXDError
from slurm_factory.fetch.apt_mirrors import ETC_APT, configured_mirrors
from slurm_factory.instances.lxc import (
    IMAGE_PREFIX,
    LOCAL,
    LONG_SECONDS,
    TimedOutError,
    lxc,
    lxc_json,
)
from slurm_factory.plan.architectures import debian_name
from slurm_factory.util.locks import locked
from slurm_factory.util.process import PIPED, error_line, follow

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.bases import Distro

SERVER_SECONDS = 60
"""lxc itself gives each address of a server ten seconds, and then reports a timeout."""
NOT_SERVED = re.compile(
    r"""Get\ "?https?://(?!unix\.socket) | \bdial\ tcp\b | \bi/o\ timeout\b | \blookup\b
    | \bnot\ found\b | couldn't\ be\ found | doesn't\ exist""",
    re.VERBOSE | re.IGNORECASE,
)
"""Messages of lxc if a server cannot be reached, or has no such image; other messages are about
this machine, such as an unreadable socket or file of lxc."""
MMDEBSTRAP_SECONDS = 15
ARCHIVED = "x86_64"
"""Architecture of the packages in the archive of Ubuntu."""


@dataclass(frozen=True)
class ImageName:
    """REMOTE:ALIAS for `lxc launch`."""

    remote: str
    alias: str


def candidates(base: Distro, architecture: str) -> tuple[ImageName, ImageName]:
    """The image on LXD's own remote, and the one made here."""
    made_here = ImageName("local", f"{IMAGE_PREFIX}{base.slug}-{architecture}")
    return ImageName(base.image.remote, base.image.alias), made_here


def ensure_image(
    base: Distro, architecture: str, settings: Settings, reporter: Reporter
) -> ImageName:
    """Find an image of `base`; make one if no image server can be reached.

    Only one build at a time makes the image of a distribution, for any base. Images from a server
    need no lock of ours: LXD downloads each only once (`imageDownloadLock` in its
    daemon_images.go).

    Args:
        base: The distribution's release.
        architecture: As uname(1) names it.
        settings: Settings of this site.
        reporter: Shows progress and waiting.

    Raises:
        LXDError: Cannot get an image.
        OSError: Cannot write to the directory of images.
    """
    served, made_here = candidates(base, architecture)
    if _has_image(made_here.alias, settings.project_name):
        return made_here
    if settings.image_server and _is_served(served):
        return served
    lock = settings.images_dir / f"{base.slug}.lock"
    with locked(lock, f"the image of {base.name}", reporter):
        # Another build may have made it in the meantime.
        if not _has_image(made_here.alias, settings.project_name):
            reporter.note(
                f"No image server has {served.remote}:{served.alias}; making the image on this"
                " machine"
            )
            make_image(base, architecture, settings, reporter)
    return made_here


def make_image(base: Distro, architecture: str, settings: Settings, reporter: Reporter) -> None:
    """Make a minimal image from the distribution's archive with mmdebstrap and import it.

    Raises:
        LXDError: mmdebstrap is missing or failed, or LXD rejected the image.
    """
    alias = candidates(base, architecture)[1].alias
    settings.images_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.images_dir, prefix="image-") as scratch:
        _bootstrap(base, architecture, settings, Path(scratch), reporter)
        lxc(
            *("image", "import", "metadata.tar.gz", "rootfs.tar", LOCAL, "--alias", alias),
            project=settings.project_name,
            timeout=LONG_SECONDS,
            cwd=Path(scratch),
        )


def sources_list(base: Distro, settings: Settings, architecture: str, options: str = "") -> str:
    """Lines for apt (sources.list(5)) with the archive of `base` for an instance.

    Args:
        base: The distribution.
        settings: Settings of this site.
        architecture: Architecture of the packages, as uname(1) names it.
        options: Options of each line.
    """
    main = mirror_of(base, settings, architecture)
    archive = base.archive
    components = " ".join(archive.components)
    deb = f"deb [{options}]" if options else "deb"
    lines = [f"{deb} {main} {suite} {components}" for suite in archive.suites]
    if archive.security is not None:
        # A mirror of Debian has the security archive beside it under this name.
        security = (
            f"{main.rstrip('/')}-security"
            if main != archive.mirror and main.rstrip("/").endswith("/debian")
            else archive.security.mirror
        )
        lines += [f"{deb} {security} {suite} {components}" for suite in archive.security.suites]
    return "\n".join(lines)


def mirror_of(base: Distro, settings: Settings, architecture: str) -> str:
    """URL of the mirror: the setting, else this machine's own, else the distribution's.

    Args:
        base: The distribution.
        settings: Settings of this site.
        architecture: Architecture of the packages, as uname(1) names it. Ubuntu has those of
            x86_64 in one archive, and those of others in its ports (ports.ubuntu.com).
    """
    ports = uses_ports(base, architecture)
    # An instance does not see a mirror on this machine's disk.
    configured = [
        url
        for url in configured_mirrors(ETC_APT, base.distribution)
        if url.startswith(("http://", "https://"))
    ]
    if ports != uses_ports(base, platform.machine()):
        configured = []
    default = base.archive.ports if ports and base.archive.ports else base.archive.mirror
    return set_mirror(base, settings, architecture) or (configured[0] if configured else default)


def set_mirror(base: Distro, settings: Settings, architecture: str) -> str | None:
    """URL of the mirror in the settings, if any; see `mirror_of`."""
    if base.distribution == "debian":
        return settings.debian_mirror
    ports = uses_ports(base, architecture)
    return settings.ubuntu_ports_mirror if ports else settings.ubuntu_mirror


def mirror_variable(base: Distro, architecture: str) -> str:
    """The variable that names a mirror; see `mirror_of`."""
    ports = "_PORTS" if uses_ports(base, architecture) else ""
    return f"SLURM_FACTORY_{base.distribution.upper()}{ports}_MIRROR"


def uses_ports(base: Distro, architecture: str) -> bool:
    """Whether the packages of an architecture are in another archive than those of x86_64."""
    return base.archive.ports is not None and architecture != ARCHIVED


def _bootstrap(
    base: Distro,
    architecture: str,
    settings: Settings,
    scratch: Path,
    reporter: Reporter,
) -> None:
    environment = {
        "ARCHITECTURE": architecture,
        "DEBIAN_ARCHITECTURE": debian_name(architecture),
        "DISTRIBUTION": base.distribution,
        "CODENAME": base.codename,
        "DESCRIPTION": f"{base.name} for slurm-factory",
        "KEYRING": base.archive.keyring,
        "SOURCES_LIST": sources_list(base, settings, architecture),
    }
    script = resources.script("make-image.sh")
    process = subprocess.Popen(
        ["bash", "-c", script, "make-image.sh"],
        cwd=scratch,
        env={**os.environ, **environment},
        **PIPED,
    )
    # If killed at once, it would leave its mounts and its directory behind.
    returncode, tail = follow(process, reporter.line, grace=MMDEBSTRAP_SECONDS)
    if returncode != 0:
        raise LXDError(
            f"Cannot make the image of {base.name}.",
            details=error_line(tail, "mmdebstrap failed."),
            resolution=(
                "Run `slurm-factory setup`, which installs mmdebstrap and the archive's keys; or"
                f" set {mirror_variable(base, architecture)} to a mirror that this machine can"
                " reach."
            ),
        )


def _has_image(alias: str, project: str) -> bool:
    images = lxc_json("image", "list", LOCAL, project=project)
    return any(alias == name["name"] for image in images for name in image["aliases"])


def _is_served(image: ImageName) -> bool:
    try:
        lxc(
            *("image", "info", f"{image.remote}:{image.alias}"),
            project="default",
            timeout=SERVER_SECONDS,
        )
    except TimedOutError as error:
        raise LXDError(
            f"The image server {image.remote} did not answer within {SERVER_SECONDS} s.",
            details=error.details,
            resolution="Run the command again; or set SLURM_FACTORY_IMAGE_SERVER=false to make"
            " images here from the distribution's archive.",
        ) from error
    except LXDError as error:
        if NOT_SERVED.search(error.details):
            return False
        raise
    return True
