"""Base instances: making, finding and locking them."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from craft_providers import Executor, lxd
from craft_providers.bases import BuilddBase, BuilddBaseAlias
from craft_providers.errors import BaseCompatibilityError, BaseConfigurationError
from craft_providers.executor import get_instance_name
from craft_providers.lxd import lxd_instance
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from typing_extensions import override
from yaml import YAMLError

from slurm_factory import resources
from slurm_factory.constants import (
    INSTANCE_EXTERNALS,
    INSTANCE_SPACK,
    INSTANCE_SPACK_PACKAGES,
    INSTANCE_SPACK_PYTHON,
)
from slurm_factory.instances.images import ImageName, candidates, mirror_variable
from slurm_factory.instances.lxc import created, is_finished, list_instances, require_running
from slurm_factory.plan import glibc
from slurm_factory.plan.base_setup import (
    BASE_LIFE,
    CROSS_SETUP_SCRIPT,
    INSTANCE_INDEX,
    SETUP_SCRIPT,
    SPACK_SETUP_SCRIPT,
    base_packages,
    foreign_packages,
    foreign_programs,
    record_path,
    setup_digest,
)
from slurm_factory.util.process import ATTEMPTS, TRANSIENT, error_line, follow, start_with_secrets

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.instances.network import Network
    from slurm_factory.job import Place
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.base_setup import BaseSetup

CA_DIRECTORY = PurePosixPath("/usr/local/share/ca-certificates")
PUSHED = PurePosixPath("/var/tmp")  # noqa: S108  # nobody else is in the instance yet
READY_SECONDS = 60
SPACK_PATHS = {
    "SPACK": INSTANCE_SPACK,
    "SPACK_PACKAGES": INSTANCE_SPACK_PACKAGES,
    "SPACK_PYTHON": INSTANCE_SPACK_PYTHON,
    "EXTERNALS": INSTANCE_EXTERNALS,
    "INDEX": INSTANCE_INDEX,
}
"""The parameters of setup-spack.sh, by name (instance)."""


def compatibility_tag(setup: BaseSetup, project: str, place: Place | None = None) -> str:
    """Changes with everything that our setup installs, which invalidates cached base instances.

    It includes the LXD project because the instances of all projects share the bridge, which does
    not allow two with the same name. Bases of root and of other users have different id maps, which
    copies inherit. A cluster has an instance of each name only once: each member has bases of its
    own, because copies from one to another take long.
    """
    whose = "" if maps_root_to_user(place) else "-unmapped"
    where = f"-{place.member}" if place and place.clustered else ""
    tag = f"{BuilddBase.compatibility_tag}.{setup_digest(setup)}{whose}{where}"
    return f"slurm-factory-{project}-{tag}"


def maps_root_to_user(place: Place | None = None) -> bool:
    """Whether root of an instance is this user on this machine, so that files that it writes to a
    mount belong to the user.

    Root of an instance is never root of this machine: where root builds, LXD's own map makes it an
    id that nobody has. On another LXD nothing of this machine is mounted.
    """
    return place is None and os.getuid() != 0


@dataclass(frozen=True)
class SpackFiles:
    """The files for a base with Spack, all on the host: two .tar.gz and wheels.

    `zig` is only for a base with a sysroot.
    """

    spack: Path
    packages: Path
    clingo: Path
    zig: Path | None = None


class QuietLXC(lxd.LXC):
    """The lxc of craft-providers, with its output captured and its commands retried.

    Some commands inherit standard error, on which lxc reported failed starts that a retry survived;
    and one that only looks treated such a failure as a missing file.
    """

    @override
    def exec(self, **arguments: Any) -> Any:
        if arguments.get("runner", subprocess.run) is not subprocess.run:
            return super().exec(**arguments)
        if not arguments.keys() & {"capture_output", "stdout", "stderr"}:
            arguments["capture_output"] = True
        if "input" not in arguments:
            arguments.setdefault("stdin", subprocess.DEVNULL)
        check = arguments.pop("check", False)
        for _ in range(ATTEMPTS):
            done: subprocess.CompletedProcess[Any] = super().exec(**arguments)
            if done.returncode == 0 or TRANSIENT not in _text(done.stderr):
                break
        if check:
            done.check_returncode()
        return done


class MemberLXC(QuietLXC):
    """Makes instances on one member of a cluster; craft-providers cannot name one."""

    def __init__(self, member: str) -> None:
        super().__init__()
        self._member = member

    @override
    def _run_lxc(self, command: Any, **arguments: Any) -> Any:
        if command[0] in {"launch", "copy"}:
            command = [*command, "--target", self._member]
        return super()._run_lxc(command, **arguments)


@contextmanager
def on_member(place: Place | None) -> Iterator[lxd.LXC | None]:
    """Let craft-providers make instances on the member of a place, if that is in a cluster.

    It uses the lxc that it is given for copies only (lxd/launcher.py, `_create_instance`);
    instances make one of their own.
    """
    if place is None or not place.clustered:
        yield None
        return
    member, original = place.member, lxd_instance.LXC  # type: ignore[attr-defined]
    setattr(lxd_instance, "LXC", lambda: MemberLXC(member))  # noqa: B010  # its type is fixed
    try:
        yield MemberLXC(member)
    finally:
        setattr(lxd_instance, "LXC", original)  # noqa: B010


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


class FactoryBase(BuilddBase):
    """craft-providers' Ubuntu base, without snaps, also for Debian; optionally with Spack.

    The hooks that are overridden to do nothing contact snapcraft.io or install snapd.
    """

    def __init__(
        self,
        setup: BaseSetup,
        project: str,
        network: Network,
        *,
        spack_files: SpackFiles | None = None,
        place: Place | None = None,
        reporter: Reporter,
    ) -> None:
        # The alias may be any member: `_base` checks the compatibility.
        super().__init__(
            alias=BuilddBaseAlias.NOBLE,
            compatibility_tag=compatibility_tag(setup, project, place),
            environment=self.default_command_environment(),
            hostname="slurm-factory",
            use_default_packages=False,
        )
        self._setup = setup
        self._base = setup.base
        self._network = network
        self._spack_files = spack_files
        self._reporter = reporter
        self.begun = False
        """Whether it has begun to make a base instance, rather than copy one."""
        self.damaged = False
        """Whether the copy shows that the setup of the base instance is not whole."""

    @override
    def _ensure_os_compatible(self, executor: Executor) -> None:
        release = self.get_os_release(executor=executor)
        found = f"{release.get('ID')}@{release.get('VERSION_ID')}"
        if found != self._base.name:
            raise BaseCompatibilityError(reason=f"expected {self._base.name}, found {found}")

    @override
    def _pre_setup_os(self, executor: Executor) -> None:
        self.begun = True
        self._reporter.line(f"Preparing the base instance {getattr(executor, 'instance_name', '')}")

    @override
    def _update_setup_status(self, executor: Executor, *, status: bool) -> None:
        # The first step of the setup of a base.
        _make_quiet(executor)
        super()._update_setup_status(executor, status=status)

    @override
    def _ensure_setup_completed(self, executor: Executor) -> None:
        # The first step of warming up a copy.
        _make_quiet(executor)
        try:
            super()._ensure_setup_completed(executor)
        except BaseCompatibilityError:
            self.damaged = True
            raise
        except (TypeError, ValueError, YAMLError) as error:
            # craft-providers only expects that a field is wrong.
            self.damaged = True
            raise BaseCompatibilityError("the record of its setup is damaged") from error

    @override
    def setup_hostname(self, executor: Executor) -> None:
        _make_quiet(executor)
        # The first command after a start: under load LXD cannot run any for a moment.
        _until_it_succeeds(executor, ["true"])
        super().setup_hostname(executor)

    @override
    def _setup_wait_for_network(self, executor: Executor) -> None:
        if not self._network.reach:
            return
        try:
            # Not `hosts`, which looks up the name of an address, which most proxies do not have.
            _until_it_succeeds(executor, ["getent", "ahosts", self._network.reach])
        except subprocess.SubprocessError as error:
            raise BaseConfigurationError(
                brief=f"The instance cannot resolve {self._network.reach}.",
                resolution="Run `slurm-factory doctor`.",
            ) from error

    @override
    def _pre_setup_packages(self, executor: Executor) -> None:
        for certificate in self._network.certificates:
            executor.push_file_io(
                destination=CA_DIRECTORY / f"host-{certificate.name}",
                content=io.BytesIO(certificate.read_bytes()),
                file_mode="0644",
            )

    @override
    def _setup_packages(self, executor: Executor) -> None:
        environment = {
            "PACKAGES": " ".join(base_packages(self._setup)),
            "SOURCES_LIST": self._network.sources_list,
        }
        failed = "Cannot install the packages of the base instance."
        self._run_script(executor, SETUP_SCRIPT, environment, failed)

    @override
    def _post_setup_packages(self, executor: Executor) -> None:
        super()._post_setup_packages(executor)
        if self._setup.foreign:
            environment = {
                "ARCHITECTURE": self._setup.foreign.debian,
                "TRIPLET": self._setup.foreign.triplet,
                "LIBRARIES": " ".join(foreign_packages(self._setup)),
                "PROGRAMS": " ".join(foreign_programs(self._setup)),
                "SOURCES_LIST": self._network.cross_sources,
            }
            self._run_script(
                executor,
                CROSS_SETUP_SCRIPT,
                environment,
                f"Cannot install packages for {self._setup.architecture}.",
                f"Set {mirror_variable(self._setup.base, self._setup.architecture)} to a mirror"
                " that has them.",
            )
        if self._setup.spack is None:
            return
        if self._spack_files is None:
            raise BaseConfigurationError(
                brief="The base instance for Spack is gone.",
                details="It existed when the build began, and was removed since.",
                resolution="Run the command again.",
            )
        given = {
            "SPACK_ARCHIVE": self._spack_files.spack,
            "PACKAGES_ARCHIVE": self._spack_files.packages,
            "CLINGO_WHEEL": self._spack_files.clingo,
        }
        pushed = {key: PUSHED / file.name for key, file in given.items()}
        for key, file in given.items():
            executor.push_file(source=file, destination=pushed[key])
        environment = {key: str(path) for key, path in {**pushed, **SPACK_PATHS}.items()}
        failed = "Cannot set up Spack in the base instance."
        self._run_script(executor, SPACK_SETUP_SCRIPT, environment, failed)
        if self._setup.floor and self._spack_files.zig:
            self._make_sysroot(executor, self._spack_files.zig)

    def _make_sysroot(self, executor: Executor, zig: Path) -> None:
        executor.push_file(source=zig, destination=PUSHED / zig.name)
        files = {key: resources.sysroot_file(name) for key, name in glibc.FILES.items()}
        environment = {
            "GLIBC": self._setup.floor,
            "SYSROOT": str(glibc.sysroot_of(self._setup.floor)),
            "ZIG_WHEEL": str(PUSHED / zig.name),
            **files,
        }
        failed = f"Cannot make the sysroot of glibc {self._setup.floor} in the base instance."
        self._run_script(executor, glibc.SCRIPT, environment, failed)

    def _run_script(
        self,
        executor: Executor,
        name: str,
        environment: dict[str, str],
        failed: str,
        advice: str | None = None,
    ) -> None:
        command = ["bash", "-c", resources.script(name), name]
        proxies = self._network.proxies
        process = start_with_secrets(executor, command, environment, proxies)
        returncode, tail = follow(process, self._reporter.line)
        if returncode != 0:
            if isinstance(executor, lxd.LXDInstance):
                require_running(executor.instance_name, executor.project, name)
            reason = error_line(tail, "It printed nothing.")
            raise BaseConfigurationError(brief=failed, details=reason, resolution=advice)

    @override
    def _pre_setup_snapd(self, executor: Executor) -> None: ...

    @override
    def _setup_snapd(self, executor: Executor) -> None: ...

    @override
    def _post_setup_snapd(self, executor: Executor) -> None: ...

    @override
    def _warmup_snapd(self, executor: Executor) -> None: ...

    @override
    def _setup_snaps(self, executor: Executor) -> None: ...


def _make_quiet(executor: Executor) -> None:
    if isinstance(executor, lxd.LXDInstance):
        executor.lxc = QuietLXC()


def _until_it_succeeds(executor: Executor, command: list[str]) -> None:
    retrying = Retrying(
        stop=stop_after_delay(READY_SECONDS),
        wait=wait_fixed(0.25),
        retry=retry_if_exception_type(subprocess.SubprocessError),
        reraise=True,
    )
    retrying(executor.execute_run, command, capture_output=True, check=True, timeout=10)


def needs_base(
    setup: BaseSetup, architecture: str, settings: Settings, place: Place | None = None
) -> bool:
    """Whether a launch must make the base instance first.

    Args:
        setup: The definition of the base.
        architecture: As uname(1) names it.
        settings: Settings of this site.
        place: Where it is; None: on this machine.

    Raises:
        LXDError: LXD does not answer.
    """
    entries = list_instances(settings.project_name)
    return not usable_bases(setup, architecture, settings.project_name, entries, place)


def base_instance_name(
    setup: BaseSetup, image: ImageName, project: str, place: Place | None = None
) -> str:
    """craft-providers' name for the base instance (lxd/launcher.py)."""
    return get_instance_name(_full_name(setup, image, project, place), lxd.LXDError)


@dataclass(frozen=True)
class PresentBase:
    """An existing base instance: its entry in `lxc list`, and its image."""

    entry: Mapping[str, Any]
    image: ImageName

    @property
    def name(self) -> str:
        """Of the instance."""
        return str(self.entry["name"])


def present_bases(
    setup: BaseSetup,
    architecture: str,
    project: str,
    entries: Iterable[Mapping[str, Any]],
    place: Place | None = None,
) -> list[PresentBase]:
    """The existing base instances of `setup`, in any state.

    Args:
        setup: The definition of the base.
        architecture: As uname(1) names it.
        project: LXD project.
        entries: Entries of all instances in it (`lxc.list_instances`).
        place: Where they are; None: on this machine.
    """
    by_name = {entry["name"]: entry for entry in entries}
    images = candidates(setup.base, architecture)
    named = [(base_instance_name(setup, image, project, place), image) for image in images]
    return [PresentBase(by_name[name], image) for name, image in named if name in by_name]


def usable_bases(
    setup: BaseSetup,
    architecture: str,
    project: str,
    entries: Iterable[Mapping[str, Any]],
    place: Place | None = None,
) -> list[PresentBase]:
    """The `present_bases` that a launch would copy; takes the same arguments.

    The name and the age are not enough: an unfinished base of a killed build has both. It keeps an
    early status, or is marked as finished without its full name, which craft-providers writes last
    (lxd/launcher.py, `_create_instance`).
    """
    oldest = datetime.now(UTC) - BASE_LIFE
    return [
        base
        for base in present_bases(setup, architecture, project, entries, place)
        if is_finished(base.entry)
        and created(base.entry) >= oldest
        and base.entry["config"].get("image.description")
        == _full_name(setup, base.image, project, place)
    ]


def _full_name(setup: BaseSetup, image: ImageName, project: str, place: Place | None) -> str:
    tag = compatibility_tag(setup, project, place)
    return f"base-instance-{tag}-{image.remote}-{image.alias}"


def base_lock(setup: BaseSetup, images_dir: Path, place: Place | None = None) -> Path:
    """The lock file for making, copying or deleting a base (host).

    It depends on the setup and not on the name of the instance, because the image, which is part of
    the name, is chosen under the lock. It is beside the base's record, and `clean` removes both.

    Args:
        setup: The definition of the base.
        images_dir: Directory of the records (host).
        place: Where the base is; None: on this machine.
    """
    path = record_path(setup, images_dir, place.member if place else "")
    return Path(f"{path}.lock")
