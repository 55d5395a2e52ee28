"""A cluster that runs from an unpacked package on one machine, and what it is asked to do."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from slurm_factory import resources
from slurm_factory.instances.machine import ScriptError
from slurm_factory.relocate.policy import Policy, load_policy
from slurm_factory.resources import load_verify_toml
from slurm_factory.verify.site import Auth, Site
from slurm_factory.verify.static import ProblemError, SkippedError

if TYPE_CHECKING:
    from slurm_factory.instances.machine import Machine
    from slurm_factory.verify.static import Opened

FACTS = re.compile(r"([a-zA-Z0-9.-]+) ([0-9]{1,5})$", re.MULTILINE)
SKIPPED = "skipped: "
"""A script that cannot check anything here ends with a line that starts so (lib.sh, `skip`)."""
SKIP_STATUS = 77
UNPACKED = PurePosixPath("/var/tmp/slurm-factory-verify")  # noqa: S108  # of an instance
SOFTWARE, MODULE = UNPACKED / "software.tar.gz", UNPACKED / "module.tar.gz"
"""Where the tarballs of a package are (machine)."""
START_LOG = "==> /var/log/slurm/start.log <=="
"""Before the part of logs.sh that start.sh has written, the last one."""
LOG_LINES = 400
"""So many lines of each daemon's log are kept of a failure."""
OLD_GLIBC = re.compile(r"(?:ld|lib(?:anl|c|dl|m|nsl|nss_\w+|pthread|resolv|rt|util))-2\.\d+\.so")
"""Files of the C library had its release in their names before 2.34."""


class CheckKind(BaseModel):
    """A check of a running cluster (`resources/verify/checks.toml`).

    Attributes:
        name: Its name; the script is check-NAME.sh.
        about: What it proves, for the documentation.
        needs: A file of the tree that it is about.
        sources: Source files of programs that the script compiles, by variable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    needs: str = ""
    sources: dict[str, str] = {}


@cache
def check_kinds() -> tuple[CheckKind, ...]:
    """All checks that a script makes, in their order."""
    return tuple(CheckKind.model_validate(row) for row in load_verify_toml("checks.toml")["check"])


@dataclass(frozen=True)
class Place:
    """Where a tree lies, and how its slurmdbd logs in to the database while it is there."""

    tree: PurePosixPath
    login: str


@cache
def places() -> tuple[Place, Place]:
    """Two places that nobody can have known before, the first with a space."""
    token = secrets.token_hex(4)
    return (
        Place(PurePosixPath(f"/opt/site {token}/software"), "mysql_native_password"),
        Place(PurePosixPath(f"/srv/{token}/software"), "ed25519"),
    )


@dataclass(frozen=True)
class Cluster:
    """The daemons of one package on one machine, which belongs to nobody else.

    Attributes:
        machine: The machine.
        opened: The package.
    """

    machine: Machine
    opened: Opened

    def deliver(self, place: Place) -> None:
        """Bring the tarballs to the machine, and unpack them.

        Raises:
            ScriptError: They cannot be unpacked there.
            LXDError: LXD refused a file.
        """
        self.machine.run("nodes.sh")
        package, top = self.opened.package, self.opened.tree.top
        self.machine.push(package.software, SOFTWARE)
        self.machine.run("unpack.sh", SOFTWARE, place.tree.parent)
        if top != place.tree.name:
            self.machine.run("move.sh", place.tree.parent / top, place.tree)
        if package.module:
            self.machine.push(package.module, MODULE)
            self.machine.run("unpack.sh", MODULE, place.tree.parent)
            self.machine.run("unpack.sh", MODULE, UNPACKED / "modules")

    def move(self, before: Place, to: Place) -> None:
        """Move the tree while no daemon runs; module files are unpacked beside it there."""
        self.machine.run("move.sh", before.tree, to.tree)
        if self.opened.package.module:
            self.machine.run("unpack.sh", MODULE, to.tree.parent)

    def start(self, place: Place, auth: Auth = "munge") -> None:
        """Configure and start every daemon, and wait until the nodes take jobs.

        Raises:
            ScriptError: Something did not come up; with what the daemons said last.
        """
        site = self.site(auth)
        login = place.login if site.tree.accounting else ""
        self.machine.run("configure.sh", place.tree, login, **site.files())
        try:
            self.machine.run("start.sh", place.tree, auth)
        except ScriptError as error:
            raise ScriptError("start.sh", "", self.last_words(error)) from error

    def site(self, auth: Auth = "munge") -> Site:
        """The configuration for this package on this machine."""
        told = FACTS.match(self.machine.run("facts.sh"))
        if told is None:
            raise ScriptError("facts.sh", "It gave no answer.", "")
        return Site(self.opened.tree, controller=told[1], cpus=int(told[2]), auth=auth)

    def stop(self) -> None:
        """Stop every daemon."""
        self.machine.run("stop.sh")

    def logs(self) -> str:
        """The logs of the daemons."""
        return self.machine.run("logs.sh", LOG_LINES)

    def last_words(self, error: ScriptError) -> str:
        """The errors in the daemons' logs, and that of a script at the end.

        start.sh writes into a log, too: daemons would keep its output open.
        """
        before, _, started = self.logs().partition(START_LOG)
        lines = [line for line in before.splitlines() if re.search(r"error|fatal", line)]
        own = (error.output.strip() or started.strip() or error.brief).splitlines()[-1]
        return "\n".join([*lines[-20:], own])

    def check(self, kind: CheckKind, place: Place) -> str:
        """Make one of the checks; returns what it found.

        Raises:
            SkippedError: It does not apply to this package or machine.
            ProblemError: It has found something wrong.
        """
        if kind.needs and not self.opened.tree.has(kind.needs):
            raise SkippedError(f"the package has no {kind.needs}")
        sources = {name: resources.verify_file(file) for name, file in kind.sources.items()}
        return self._script(f"check-{kind.name}.sh", place.tree, **sources)

    def check_module(self, place: Place, system: str, *, beside: bool) -> str:
        """Load and unload the module.

        Args:
            place: Where the tree is.
            system: lmod or tcl.
            beside: The module files lie beside the tree; else SLURM_INSTALL_PREFIX tells them.
        """
        if not self.opened.package.module:
            raise SkippedError("there are no module files")
        where = (place.tree.parent,) if beside else (UNPACKED / "modules", place.tree)
        return self._script("check-modules.sh", place.tree, system, *where)

    def check_libraries(self, place: Place) -> str:
        """No daemon and no job step maps a library of the machine against the policy."""
        lines = self._script("mapped.sh", place.tree).splitlines()
        mapped = Mapped.parse(lines)
        foreign = sorted(mapped.foreign(place.tree, load_policy()))
        if foreign:
            raise ProblemError("; ".join(f"{program} maps {file}" for program, file in foreign))
        return f"{len(mapped.by)} mappings of {len({by for by, _ in mapped.by})} programs"

    def check_sackd(self, place: Place) -> str:
        """Jobs of a machine that has no munge, by auth/slurm; the daemons start again for it."""
        tree = self.opened.tree
        if not tree.has("sbin/sackd") or not tree.has_plugin("auth_slurm"):
            raise SkippedError("the package has no sackd or no auth/slurm")
        if tree.has_plugin("tls_s2n"):
            raise SkippedError("with tls/s2n, the machine would need a certificate")
        self.stop()
        self.start(place, auth="slurm")
        return self._script("check-sackd.sh", place.tree)

    def _script(self, name: str, *arguments: object, **variables: str) -> str:
        try:
            said = self.machine.run(name, *arguments, **variables).strip()
        except ScriptError as error:
            last = error.details
            # A program of the package may end with this status, too.
            if error.status == SKIP_STATUS and last.startswith(SKIPPED):
                raise SkippedError(last.removeprefix(SKIPPED)) from error
            raise ProblemError(last or error.brief) from error
        return said if name == "mapped.sh" else said.rpartition("\n")[2]


@dataclass(frozen=True)
class Mapped:
    """Files that running processes have mapped to execute.

    Attributes:
        by: Program and file (machine) of each mapping.
        needed: Library of the machine, and a library that it needs itself.
    """

    by: frozenset[tuple[str, PurePosixPath]]
    needed: frozenset[tuple[PurePosixPath, PurePosixPath]]

    @classmethod
    def parse(cls, lines: list[str]) -> Mapped:
        """From the output of mapped.sh; other lines are ignored."""
        fields = [parts for line in lines if len(parts := line.split("\t")) == 3]  # noqa: PLR2004
        mapped = ((by, PurePosixPath(file)) for kind, by, file in fields if kind == "mapped")
        needed = ((by, file) for kind, by, file in fields if kind == "needed")
        pairs = ((PurePosixPath(by), PurePosixPath(file)) for by, file in needed)
        return cls(frozenset(mapped), frozenset(pairs))

    def foreign(self, tree: PurePosixPath, policy: Policy) -> set[tuple[str, PurePosixPath]]:
        """Mappings of files that are neither in `tree` nor what `policy` leaves outside."""
        outside = {file for _, file in self.by if is_allowed(file, policy)}
        outside |= {file for of, file in self.needed if of in outside}
        return {
            (program, file)
            for program, file in self.by
            if tree not in file.parents and file not in outside
        }


def is_allowed(file: PurePosixPath, policy: Policy) -> bool:
    """Whether policy leaves a library outside, whose file may be named after its full version."""
    if OLD_GLIBC.fullmatch(file.name):
        return True
    parts = file.name.split(".")
    sonames = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return any(policy.outside_for(soname) for soname in sonames)


def logs_of(cluster: Cluster) -> str:
    """The logs of the daemons; an explanation if they cannot be read any more."""
    try:
        return cluster.logs()
    except ScriptError as error:
        return f"{error}\n"
