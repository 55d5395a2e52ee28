"""Small packages that deploy.sh takes for those of slurm-factory, and where to deploy them."""

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from commands import LIMIT_SECONDS
from package_samples import EPOCH, IDENTITY

from slurm_factory import resources
from slurm_factory.package.deployment import DEPLOYMENT, write_deployment
from slurm_factory.package.licenses import write_identity
from slurm_factory.package.modules import write_modules
from slurm_factory.package.publish import write_checksums
from slurm_factory.package.tarball import pack
from slurm_factory.package.tree import MAIN_LIBRARY

SLURMD = """#!/bin/sh
case $1 in
    -V) echo "slurm {release}" ;;
    -C) echo "NodeName=anything CPUs=2 Boards=1 RealMemory=900"; echo UpTime=0-00:00:01 ;;
esac
"""
PLUGINS = ("auth_jwt", "accounting_storage_mysql")
PROGRAMS = ("slurmctld", "slurmdbd", "slurmrestd", "sackd", "munged")


def make_package(
    directory: Path,
    release: str = "24.11.5",
    *,
    stem: str = "",
    glibc: str = "2.17",
    libraries: tuple[str, ...] = ("libc.so.6",),
    files: int = 0,
    changes: dict[str, str] | None = None,
) -> Path:
    """The software tarball of a package in `directory` (host), with its other files beside it.

    Args:
        directory: Where to make it.
        release: Release of Slurm.
        stem: Its name; empty: by its release.
        glibc: Release of glibc that it needs.
        libraries: Sonames that it needs.
        files: Number of further files in it.
        changes: Other values in its package.conf.
    """
    stem = stem or f"slurm-{release}"
    identity = IDENTITY.model_copy(update={"stem": stem, "release": release, "version": release})
    tree = directory / f"{stem}.tree"
    for name in PLUGINS:
        _write(tree / f"lib/slurm/{name}.so", "")
    for name in PROGRAMS:
        _write(tree / "sbin" / name, "#!/bin/sh\n")
    _write(tree / "sbin/slurmd", SLURMD.format(release=release))
    for number in range(files):
        _write(tree / f"share/doc/{number}", f"{release} {number}")
    _write(tree / MAIN_LIBRARY, "Slurm")
    write_identity(tree, identity)
    write_deployment(tree, identity, glibc, libraries)
    facts = tree / DEPLOYMENT / "package.conf"
    for name, value in (changes or {}).items():
        lines = [line for line in facts.read_text().splitlines() if not line.startswith(f"{name}=")]
        facts.write_text("\n".join([*lines, f"{name}={value}", ""]))
    modules = directory / f"{stem}.modules"
    write_modules(identity, modules)
    software = pack(tree, directory / identity.software_tarball, top="software", mtime=EPOCH)
    module = pack(modules, directory / identity.module_tarball, top="", mtime=EPOCH)
    write_checksums((software, module), directory / identity.checksums)
    shutil.rmtree(tree)
    shutil.rmtree(modules)
    return software.path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@dataclass(frozen=True)
class Place:
    """Where packages are deployed (host paths).

    Attributes:
        prefix: Directory of all versions.
        root: What stands for the root of a machine; None: this one's.
        said: What the last command printed.
        errors: Its messages.
        code: Its exit status.
    """

    prefix: Path
    root: Path | None = None
    said: str = ""
    errors: str = ""
    code: int = 0

    @property
    def top(self) -> Path:
        """The directory of all versions, below the root."""
        return self.prefix if self.root is None else Path(f"{self.root}{self.prefix}")

    @property
    def current(self) -> str:
        """Name of the version that is current; it must be complete."""
        link = self.top / "current"
        assert (link / "software/sbin/slurmd").is_file()
        assert (link / "deployed").read_text().count("\n") == 5
        return link.resolve().name

    @property
    def names(self) -> set[str]:
        """Names of the complete versions; nothing else may lie beside them."""
        return {path.name for path in (self.top / "versions").iterdir()}

    @property
    def document(self) -> dict[str, Any]:
        """What the last command printed with --json."""
        content: dict[str, Any] = json.loads(self.said)
        return content

    def words(self, *words: object) -> list[str]:
        """The command line of the script."""
        root = ["--root", str(self.root)] if self.root else []
        script = str(resources.deploy_script())
        return ["sh", script, "--prefix", str(self.prefix), *root, *map(str, words)]

    def deploy(self, *words: object) -> "Place":
        """Run the script with these words; returns the place with what it printed."""
        done = subprocess.run(
            self.words(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        return replace(self, said=done.stdout, errors=done.stderr, code=done.returncode)


def job_state(directory: Path, protocol: int) -> Path:
    """A file as slurmctld of a protocol begins its state of jobs with (pack.c: packstr, pack16)."""
    directory.mkdir(parents=True, exist_ok=True)
    text = b"PROTOCOL_VERSION\0"
    content = len(text).to_bytes(4, "big") + text + bytes([protocol, 0]) + b"and all the jobs"
    path = directory / "job_state"
    path.write_bytes(content)
    return path
