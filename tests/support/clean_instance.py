"""Clean Debian instances, in which a package is tried: no compiler, no Slurm, no munge."""

import hashlib
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import filelock
from commands import run_to_end
from craft_providers.lxd import LXC
from craft_providers.lxd.project import create_with_default_profile
from paths import REPOSITORY

from slurm_factory.cache_dir import make_cache_dir
from slurm_factory.config import Settings
from slurm_factory.instances.images import ensure_image, mirror_of
from slurm_factory.instances.lxc import (
    LONG_SECONDS,
    delete_instance,
    instance_names,
    lxc,
    project_exists,
)
from slurm_factory.instances.network import both_spellings
from slurm_factory.output.reporter import make_reporter
from slurm_factory.plan.bases import Archive, Base, Image, find_base

NEWEST = find_base("debian@13", ("", ""))
OLDEST = find_base("debian@12", ("", "")).model_copy(
    update={
        "name": "debian@11",
        "version": "11",
        "codename": "bullseye",
        "glibc": "2.31",
        "image": Image(remote="images", alias="debian/11"),
        "archive": Archive(
            mirror="http://deb.debian.org/debian",
            components=("main",),
            suites=("bullseye",),
            keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
        ),
    }
)
"""No base of builds any more, but the oldest C library among the distributions at hand."""
SYSTEMS = {base.name: base for base in (NEWEST, OLDEST)}
# Some serve the tests; the others are what Lmod and Environment Modules depend on.
PACKAGES = (
    *("mariadb-server", "bash-completion", "curl", "openssh-server", "xauth", "pamtester"),
    *("lua5.3", "lua-filesystem", "lua-json", "lua-posix", "lua-term", "tcl8.6", "man-db"),
)
SCRIPTS = Path(__file__).parent / "cluster"
MODULE_SYSTEMS = REPOSITORY / "tests" / "install-module-systems.sh"
CA_DIRECTORY = PurePosixPath("/usr/local/share/ca-certificates")


class ScriptError(AssertionError):
    """A script failed in an instance; the message holds all that it said."""


@dataclass(frozen=True)
class CleanInstance:
    """A running LXD container."""

    name: str
    project: str

    def run(self, script: str, *arguments: object, **environment: str) -> str:
        """Run a script of cluster/ with lib.sh before it; returns what it printed.

        Raises:
            ScriptError: It failed, or hung.
        """
        text = (SCRIPTS / "lib.sh").read_text() + (SCRIPTS / script).read_text()
        return self.execute(script, "bash", "-c", text, script, *map(str, arguments), **environment)

    def execute(self, title: str, *words: str, **environment: str) -> str:
        """Run a command as root; returns what it printed.

        Args:
            title: Names it in errors.
            words: The command.
            environment: Added to what LXD sets.

        Raises:
            ScriptError: It failed, or hung.
        """
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        command = ["lxc", "--project", self.project, "exec", "-T", self.name, *variables, "--"]
        command += words
        done = run_to_end(command)
        if done.returncode != 0:
            raise ScriptError(f"{title}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def push(self, path: Path, destination: PurePosixPath) -> None:
        """Copy a file of the host into the instance."""
        target = f"{self.name}{destination}"
        lxc("file", "push", "-p", str(path), target, project=self.project, timeout=LONG_SECONDS)


@contextmanager
def clean_copy(settings: Settings, system: Base = NEWEST) -> Iterator[CleanInstance]:
    """A copy of the prepared instance, deleted afterwards.

    Args:
        settings: Settings of this site; `project_name` is the LXD project that is used.
        system: The distribution in it.
    """
    prepared = _ensure_prepared(settings, system)
    instance = CleanInstance(f"live-{secrets.token_hex(4)}", settings.project_name)
    try:
        lxc("copy", prepared, instance.name, project=instance.project, timeout=LONG_SECONDS)
        lxc("start", instance.name, project=instance.project)
        instance.run("boot.sh")
        yield instance
    finally:
        delete_instance(instance.name, instance.project)


def _ensure_prepared(settings: Settings, system: Base) -> str:
    """Name of a stopped instance that is ready to be copied; made once for all test runs."""
    texts = [*PACKAGES, MODULE_SYSTEMS.read_text(), (SCRIPTS / "prepare.sh").read_text()]
    prefix = f"clean-{system.slug}-"
    name = prefix + hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    project = settings.project_name
    make_cache_dir(settings)
    settings.images_dir.mkdir(exist_ok=True)
    with filelock.FileLock(settings.images_dir / f"{prefix}{project}.lock"):
        present = instance_names(project)
        if name in present:
            return name
        for outdated in present:
            if outdated.startswith(prefix):
                delete_instance(outdated, project)
        _prepare(f"{name}-partial", settings, system)
        lxc("rename", f"{name}-partial", name, project=project)
    return name


def _prepare(name: str, settings: Settings, system: Base) -> None:
    project = settings.project_name
    if not project_exists(project):
        create_with_default_profile(project=project, lxc=LXC())
    image = ensure_image(system, platform.machine(), settings, make_reporter(verbose=True))
    lxc("launch", f"{image.remote}:{image.alias}", name, project=project, timeout=LONG_SECONDS)
    instance = CleanInstance(name, project)
    instance.run("boot.sh")
    for certificate in settings.ca_certificates.glob("*.crt"):
        instance.push(certificate, CA_DIRECTORY / certificate.name)
    through = both_spellings(dict(os.environ))
    mirror = through.get("http_proxy") or mirror_of(system, settings, platform.machine())
    instance.run(
        "prepare.sh",
        PACKAGES=" ".join(PACKAGES),
        REACH=urlsplit(mirror).hostname or "deb.debian.org",
        MODULE_SYSTEMS=MODULE_SYSTEMS.read_text(),
        **through,
    )
    lxc("stop", name, project=project)
