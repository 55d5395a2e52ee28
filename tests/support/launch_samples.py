"""LXD with a base and an image, a stand-in for `lxd.launch`, and launches from them."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pylxd.exceptions
import pytest
import requests
from craft_providers import lxd
from executor_samples import RecordingExecutor
from fake_lxc import PROJECT, instance
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.constants import Deps
from slurm_factory.instances.base import FactoryBase, base_instance_name, compatibility_tag
from slurm_factory.instances.build_instance import lxd_instance
from slurm_factory.instances.images import ImageName
from slurm_factory.instances.instance import Instance
from slurm_factory.instances.launch import Launch
from slurm_factory.instances.network import Network
from slurm_factory.plan.base_setup import BaseSetup, SpackRefs
from slurm_factory.plan.bases import find_base

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
DEBIAN = find_base("debian@12", ("debian", "12"))
UBUNTU = find_base("ubuntu@24.04", ("debian", "12"))
MADE_HERE = ImageName("local", "slurm-factory-debian-12-x86_64")
SETUP = BaseSetup(DEBIAN, Deps.SYSTEM, "x86_64")
UBUNTU_SETUP = BaseSetup(UBUNTU, Deps.SYSTEM, "x86_64")
REFS = SpackRefs("https://u:p@git.example/spack", "v1.1.0", "/srv/spack-packages", "v2026.06.0")
SPACK_SETUP = BaseSetup(DEBIAN, Deps.SPACK, "x86_64", REFS)
BASE_NAME = base_instance_name(SETUP, MADE_HERE, PROJECT)
DESCRIPTION = (
    f"base-instance-{compatibility_tag(SETUP, PROJECT)}-{MADE_HERE.remote}-{MADE_HERE.alias}"
)
OTHER_BASE = base_instance_name(SPACK_SETUP, MADE_HERE, PROJECT)
NAME = "build-x"
LAUNCH = lxd.launch
PATIENCE = 120
"""Seconds after which a thread that should have begun to wait counts as one that does not."""


class FakeInstance(RecordingExecutor):
    """What `lxd.launch` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.default_command_environment: dict[str, str | None] = {}


class FakeLauncher:
    """`lxd.launch` with prepared failures, one error per call."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls: list[dict[str, Any]] = []
        self.instance = FakeInstance()
        self.on_call: Callable[[FactoryBase], None] = lambda _: None

    def __call__(self, name: str, **arguments: Any) -> FakeInstance:
        self.calls.append({"name": name, **arguments})
        self.on_call(arguments["base_configuration"])
        if self.errors:
            raise self.errors.pop(0)
        listed = Path(str(shutil.which("lxc"))).with_name("instances")
        entries = [json.loads(line) for line in listed.read_text().splitlines()]
        if not any(entry["name"] == name for entry in entries):
            with listed.open("a") as file:
                file.write(json.dumps(instance(name, NOW)) + "\n")
        return self.instance


def base(created: datetime, description: str = DESCRIPTION, **noted: str) -> dict[str, Any]:
    """The base instance that was made here, as `lxc list` shows it."""
    return instance(BASE_NAME, created, None, description=description, **noted)


def launcher(monkeypatch: pytest.MonkeyPatch, *errors: BaseException) -> FakeLauncher:
    """Put a stand-in in the place of `lxd.launch`, which fails with `errors` first."""
    made = FakeLauncher(*errors)
    monkeypatch.setattr(lxd, "launch", made)
    return made


@contextmanager
def launch_instance(settings: Settings, **changes: Any) -> Iterator[Instance]:
    """An instance of a launch from the base that is there."""
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock", **changes)
    with lxd_instance(launch, settings, Listener()) as place:
        yield place


def image_lock(settings: Settings) -> Path:
    """Held while the image of Debian 12 is made."""
    return settings.images_dir / "debian-12.lock"


def make_base(network: Network | None = None, reporter: Listener | None = None) -> FactoryBase:
    """The base of the system recipe."""
    reporter = reporter or Listener()
    return FactoryBase(SETUP, PROJECT, network or Network(), reporter=reporter)


def copying(code: int) -> dict[str, object]:
    """An operation as LXD 5.0.2 lists it."""
    resources = {"instances": [f"/1.0/instances/{NAME}", f"/1.0/instances/{BASE_NAME}"]}
    return {"class": "task", "status_code": code, "resources": resources}


UNFINISHED = [
    base(datetime.now(UTC), status="PREPARING") | {"status": "Running"},
    base(datetime.now(UTC), status="PREPARING"),
    base(datetime.now(UTC), status="STARTING"),
    base(datetime.now(UTC)) | {"status": "Running"},
    # craft-providers marks what it could not set up as finished, and is killed before we delete it.
    base(datetime.now(UTC), "Debian bookworm amd64 (20261101_05:24)"),
    instance(BASE_NAME, datetime.now(UTC)),
]


SILENT = (
    requests.ConnectionError("Connection aborted."),
    pylxd.exceptions.ClientConnectionFailed("no socket"),
)
