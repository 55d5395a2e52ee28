"""The cached base instance: a distribution with everything that builds need installed once."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from craft_providers import Executor
from craft_providers.bases import BuilddBase, BuilddBaseAlias
from craft_providers.errors import BaseCompatibilityError, BaseConfigurationError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from typing_extensions import override

from slurm_factory import resources
from slurm_factory.base_record import SETUP_SCRIPT, base_packages, setup_digest
from slurm_factory.instances.streams import PIPED, follow, telling_line

if TYPE_CHECKING:
    from slurm_factory.bases import Base

CA_DIRECTORY = PurePosixPath("/usr/local/share/ca-certificates")
READY_SECONDS = 60


def compatibility_tag(base: Base, project: str) -> str:
    """Changes whenever what our setup installs does, which invalidates cached base instances.

    The LXD project is a part of it because instances of all projects share the bridge, and two
    with one name cannot both be on it.
    """
    return f"slurm-factory-{project}-{BuilddBase.compatibility_tag}.{setup_digest(base)}"


@dataclass(frozen=True)
class Surroundings:
    """What of the host an instance needs to reach the network."""

    proxies: dict[str, str] = field(default_factory=dict)
    """http_proxy, https_proxy, no_proxy and their like, as they are set on the host."""
    certificates: tuple[Path, ...] = ()
    """Further CA certificates (host)."""
    sources_list: str = ""
    """Lines for apt, where the image's own shall not be used."""
    reach: str = "deb.debian.org"
    """Host name that must resolve inside: that of the archive, or of the proxy before it."""


class FactoryBase(BuilddBase):
    """craft-providers' Ubuntu base, without snaps and for Debian as well.

    The hooks that are overridden to do nothing contact snapcraft.io or install snapd.
    """

    def __init__(
        self,
        base: Base,
        project: str,
        surroundings: Surroundings,
        *,
        on_line: Callable[[str], None],
    ) -> None:
        # The alias only has to be some member: compatibility is checked by `_base`.
        super().__init__(
            alias=BuilddBaseAlias.NOBLE,
            compatibility_tag=compatibility_tag(base, project),
            environment={**self.default_command_environment(), **surroundings.proxies},
            hostname="slurm-factory",
            use_default_packages=False,
        )
        self._base = base
        self._surroundings = surroundings
        self._on_line = on_line
        self.begun = False
        """Whether a base instance was begun to be made, rather than copied."""

    @override
    def _ensure_os_compatible(self, executor: Executor) -> None:
        release = self.get_os_release(executor=executor)
        found = f"{release.get('ID')}@{release.get('VERSION_ID')}"
        if found != self._base.name:
            raise BaseCompatibilityError(reason=f"expected {self._base.name}, found {found}")

    @override
    def _pre_setup_os(self, executor: Executor) -> None:
        self.begun = True
        self._on_line(f"Preparing the base instance {getattr(executor, 'instance_name', '')}")

    @override
    def setup_hostname(self, executor: Executor) -> None:
        # The first command after a start: under load LXD cannot run any for a moment.
        _until_it_succeeds(executor, ["true"])
        super().setup_hostname(executor)

    @override
    def _setup_wait_for_network(self, executor: Executor) -> None:
        try:
            _until_it_succeeds(executor, ["getent", "hosts", self._surroundings.reach])
        except subprocess.SubprocessError as error:
            raise BaseConfigurationError(
                brief=f"{self._surroundings.reach} cannot be resolved inside the instance.",
                resolution="Run `slurm-factory doctor`.",
            ) from error

    @override
    def _pre_setup_packages(self, executor: Executor) -> None:
        for certificate in self._surroundings.certificates:
            executor.push_file_io(
                destination=CA_DIRECTORY / f"host-{certificate.name}",
                content=io.BytesIO(certificate.read_bytes()),
                file_mode="0644",
            )

    @override
    def _setup_packages(self, executor: Executor) -> None:
        process = executor.execute_popen(
            ["bash", "-c", resources.script(SETUP_SCRIPT), SETUP_SCRIPT],
            env={
                "PACKAGES": " ".join(base_packages(self._base)),
                "SOURCES_LIST": self._surroundings.sources_list,
            },
            **PIPED,
        )
        returncode, tail = follow(process, self._on_line)
        if returncode != 0:
            raise BaseConfigurationError(
                brief="The packages of the base instance could not be installed.",
                details=telling_line(tail, "The package manager said nothing."),
            )

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


def _until_it_succeeds(executor: Executor, command: list[str]) -> None:
    retrying = Retrying(
        stop=stop_after_delay(READY_SECONDS),
        wait=wait_fixed(0.25),
        retry=retry_if_exception_type(subprocess.SubprocessError),
        reraise=True,
    )
    retrying(executor.execute_run, command, capture_output=True, check=True, timeout=10)


def read_record(base: Base, executor: Executor) -> dict[str, Any]:
    """What only a base can tell: the versions of all packages in it."""
    command = [
        "dpkg-query",
        "-W",
        "-f",
        "${db:Status-Status} ${Package}:${Architecture} ${Version}\n",
    ]
    done = executor.execute_run(command, capture_output=True, check=True, text=True, timeout=60)
    rows = (line.split(" ", 2) for line in done.stdout.splitlines())
    # dpkg also lists what was removed and left its configuration behind.
    packages = {name: version for status, name, version in rows if status == "installed"}
    return {"base": base.name, "setup": setup_digest(base), "packages": packages}
