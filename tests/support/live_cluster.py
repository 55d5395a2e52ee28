"""A cluster of one node, run from an unpacked package in a clean instance."""

import re
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clean_instance import NEWEST, OLDEST, SCRIPTS, CleanInstance, ScriptError, clean_copy

from slurm_factory.config import Settings
from slurm_factory.package.manifest import load_manifest
from slurm_factory.plan.bases import Base
from slurm_factory.relocate.policy import Policy, load_policy

CHECKS = {
    "munge": "bin/remunge",
    "srun": "bin/srun",
    "sbatch": "bin/sbatch",
    "restd": "sbin/slurmrestd",
    "x11": "bin/srun",
    "pam": "lib/security/pam_slurm.so",
    "completion": "share/bash-completion/completions/srun",
    "tls": "lib/slurm/tls_s2n.so",
    "nss": "lib/nss/libnss_slurm.so.2",
    "perl": "bin/seff",
    "pmix": "lib/slurm/mpi_pmix.so",
    "lua": "lib/slurm/job_submit_lua.so",
    "mpi": "bin/mpicc",
}
"""Checks, and the file of the tree that each is about."""
OLD_GLIBC = re.compile(r"(?:ld|lib(?:anl|c|dl|m|nsl|nss_\w+|pthread|resolv|rt|util))-2\.\d+\.so")
"""Files of the C library had its release in their names before 2.34."""
MPI_PROGRAM = PurePosixPath("/var/tmp/mpi-hello")
MODULES = PurePosixPath("/opt/module files")
LOGIN_PLUGIN = PurePosixPath("lib/private/mariadb/plugin/client_ed25519.so")


@dataclass(frozen=True)
class Place:
    """Where a tree lies, and how its slurmdbd logs in to the database while it is there."""

    tree: PurePosixPath
    login: str


PLACES = {
    "a prefix with a space": Place(
        PurePosixPath("/opt/first site/software"), "mysql_native_password"
    ),
    "the prefix it was moved to": Place(PurePosixPath("/srv/second/software"), "ed25519"),
}


@dataclass(frozen=True)
class Mapped:
    """Files that running processes have mapped to execute.

    Attributes:
        by: Program and file (instance) of each mapping.
        needed: Library of the machine, and a library that it needs itself.
    """

    by: frozenset[tuple[str, PurePosixPath]]
    needed: frozenset[tuple[PurePosixPath, PurePosixPath]]

    def foreign(self, tree: PurePosixPath, policy: Policy) -> set[tuple[str, PurePosixPath]]:
        """Mappings of files that are neither in `tree` nor what `policy` leaves outside."""
        outside = {file for _, file in self.by if allowed(file, policy)}
        outside |= {file for of, file in self.needed if of in outside}
        return {
            (program, file)
            for program, file in self.by
            if tree not in file.parents and file not in outside
        }


def allowed(file: PurePosixPath, policy: Policy) -> bool:
    """Whether policy leaves a library outside, whose file may be named after its full version."""
    if OLD_GLIBC.fullmatch(file.name):
        return True
    parts = file.name.split(".")
    sonames = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return any(policy.outside_for(soname) for soname in sonames)


class LiveCluster:
    """The daemons of one package in one instance.

    Attributes:
        place: Where the tree is at the moment.
        checks: Those of `CHECKS` that are about something the package has.
    """

    def __init__(self, instance: CleanInstance, manifest: Path, place: Place) -> None:
        """Unpack the package (manifest: host)."""
        self.instance = instance
        self.place = place
        identity = load_manifest(manifest).identity
        self._unpack(manifest.with_name(identity.software_tarball), place.tree.parent)
        self._modules = manifest.with_name(identity.module_tarball)
        self._unpack(self._modules, place.tree.parent)
        self._unpack(self._modules, MODULES)
        with tarfile.open(manifest.with_name(identity.software_tarball)) as software:
            names = {PurePosixPath(name) for name in software.getnames()}
        self.checks = tuple(
            check for check, file in CHECKS.items() if "software" / PurePosixPath(file) in names
        )
        if "mpi" in self.checks:
            self._push_mpi_program(manifest.with_name(identity.software_tarball))

    def move_to(self, place: Place) -> None:
        """Move the tree; module files are unpacked beside it there."""
        if place.tree != self.place.tree:
            self.instance.run("move.sh", self.place.tree, place.tree)
            self._unpack(self._modules, place.tree.parent)
        self.place = place

    def start(self) -> None:
        """Start every daemon and wait until the node can take jobs.

        Raises:
            ScriptError: Something did not come up; with what the daemons said.
        """
        self.instance.run("configure.sh", self.place.tree, self.place.login)
        try:
            self.instance.run("start.sh", self.place.tree)
        except ScriptError as error:
            raise ScriptError(f"{error}\n{self.instance.run('logs.sh')}") from error

    def stop(self) -> None:
        """Stop every daemon."""
        self.instance.run("stop.sh")

    def check(self, name: str) -> str:
        """Run one of `CHECKS`; returns what it found."""
        return self.instance.run(f"check-{name}.sh", self.place.tree)

    def check_module(self, system: str, *, beside: bool) -> str:
        """Load and unload the module.

        Args:
            system: lmod or tcl.
            beside: The module files lie beside the tree; else SLURM_INSTALL_PREFIX tells them.
        """
        tree = self.place.tree
        where = (tree.parent,) if beside else (MODULES, tree)
        return self.instance.run("check-modules.sh", tree, system, *where)

    def mapped(self) -> Mapped:
        """What the daemons and a job step have mapped."""
        lines = self.instance.run("mapped.sh", self.place.tree).splitlines()
        fields = [line.split("\t") for line in lines]
        return Mapped(
            frozenset((by, PurePosixPath(file)) for kind, by, file in fields if kind == "mapped"),
            frozenset(
                (PurePosixPath(by), PurePosixPath(file))
                for kind, by, file in fields
                if kind == "needed"
            ),
        )

    def _push_mpi_program(self, tarball: Path) -> None:
        """Compile with the tree's own mpicc, at a third place; the instance has no compiler."""
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(["tar", "-xzf", tarball, "-C", place], check=True)
            program = Path(place) / "mpi-hello"
            mpicc = Path(place) / "software/bin/mpicc"
            subprocess.run([str(mpicc), SCRIPTS / "mpi-hello.c", "-o", program], check=True)
            self.instance.push(program, MPI_PROGRAM)

    def _unpack(self, tarball: Path, directory: PurePosixPath) -> None:
        arrived = PurePosixPath("/var/tmp") / tarball.name
        self.instance.push(tarball, arrived)
        self.instance.run("unpack.sh", arrived, directory)


def try_package(
    settings: Settings, manifest: Path, on_line: Callable[[str], None], system: Base = NEWEST
) -> None:
    """Run every check at every place, for trials by hand.

    Args:
        settings: Settings of this site.
        manifest: Manifest of a finished package (host).
        on_line: Takes a line for each thing done.
        system: The distribution in the clean instance.

    Raises:
        ScriptError: A check failed.
    """
    with clean_copy(settings, system) as instance:
        cluster = LiveCluster(instance, manifest, next(iter(PLACES.values())))
        for place in PLACES.values():
            began = time.monotonic()
            cluster.move_to(place)
            cluster.start()
            found = {name: cluster.check(name).strip() for name in cluster.checks}
            # Lmod of Debian 11 drops spaces from MODULEPATH.
            for modules in ("tcl",) if system.name == OLDEST.name else ("lmod", "tcl"):
                found[modules] = " and ".join(
                    cluster.check_module(modules, beside=beside).strip().splitlines()[-1]
                    for beside in (True, False)
                )
            require_own_libraries(cluster)
            cluster.stop()
            for name, result in found.items():
                on_line(f"    {name}: {result}")
            on_line(f"  {place.tree}: {time.monotonic() - began:.1f} s")


def require_own_libraries(cluster: LiveCluster) -> None:
    """Fail if a daemon has mapped what it should not.

    Raises:
        ScriptError: With each such program and file.
    """
    foreign = cluster.mapped().foreign(cluster.place.tree, load_policy())
    if foreign:
        raise ScriptError("\n".join(f"{program} maps {file}" for program, file in sorted(foreign)))
