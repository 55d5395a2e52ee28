import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_tools import copy_image

from slurm_factory.config import Settings
from slurm_factory.constants import DOCTOR_PREFIX
from slurm_factory.host.checks import Status
from slurm_factory.host.doctor import doctor
from slurm_factory.host.doctor_instance import find_image, look_from_inside, try_instance
from slurm_factory.host.facts import Account
from slurm_factory.host.setup import setup

IMAGE_SCRIPT = """
mmdebstrap --quiet --variant=minbase \
    --include=systemd,systemd-sysv,systemd-resolved,dbus,iproute2,ca-certificates,netbase,udev \
    bookworm "$1/rootfs.tar.gz"
cat >"$1/metadata.yaml" <<END
architecture: $(uname -m)
creation_date: 1700000000
properties: {os: debian, release: bookworm}
END
tar -C "$1" -czf "$1/metadata.tar.gz" metadata.yaml
"""

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("lxd")]


def lxc(*arguments: str) -> str:
    done = subprocess.run(["lxc", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def state() -> list[Any]:
    paths = ("storage-pools", "networks", "profiles")
    found = [json.loads(lxc("query", f"local:/1.0/{path}?recursion=1")) for path in paths]
    return [
        {key: value for key, value in thing.items() if key != "used_by"}
        for things in found
        for thing in things
    ]


def instances(project: str) -> list[str]:
    return lxc("list", "--project", project, "--format", "csv", "--columns", "n").split()


@pytest.fixture(scope="module")
def project(lxd: Settings) -> Iterator[str]:
    name = f"test-host-{secrets.token_hex(3)}"
    lxc("project", "create", name, "--config", "features.profiles=false")
    yield name
    for image in json.loads(lxc("query", f"local:/1.0/images?recursion=1&project={name}")):
        lxc("image", "delete", "--project", name, image["fingerprint"])
    lxc("project", "delete", name)


@pytest.fixture
def settings(project: str, tmp_path: Path) -> Settings:
    return Settings(project_name=project, cache_dir=tmp_path / "cache")


@pytest.fixture(scope="module")
def image(lxd: Settings, project: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    if not copy_image(lxd, project, tmp_path_factory.mktemp("copy")):
        directory = tmp_path_factory.mktemp("image")
        subprocess.run(["bash", "-euc", IMAGE_SCRIPT, "bash", str(directory)], check=True)
        files = (str(directory / name) for name in ("metadata.tar.gz", "rootfs.tar.gz"))
        lxc("image", "import", "--project", project, *files, "local:")
    found = find_image(project)
    assert found is not None
    return found


def test_setup_on_a_ready_machine_needs_nothing_and_changes_nothing(settings: Settings) -> None:
    before = state()
    result = setup(settings, pytest.fail, check=True)
    assert result.ready
    assert [step.name for step in result.steps if step.needed] == []
    assert not settings.cache_dir.exists()
    # The project has no instance yet, so that one is tried.
    result = setup(settings, lambda _: None)
    assert result.ready
    assert [step.name for step in result.steps if step.needed] == ["instance"]
    assert state() == before
    assert_nothing_tried_is_left()


def assert_nothing_tried_is_left() -> None:
    names = [*instances("default"), *lxc("image", "list", "local:", "--format", "csv").split(",")]
    assert [name for name in names if name.startswith(DOCTOR_PREFIX)] == []


def test_doctor_without_an_image_starts_an_instance_and_leaves_the_network_unchecked(
    settings: Settings,
) -> None:
    checks = doctor(settings)
    assert [check for check in checks if check.status is Status.FAILED] == []
    started = next(check for check in checks if check.name == "instance-start")
    assert started.status is Status.OK
    skipped = {check.message for check in checks if check.status is Status.SKIPPED}
    assert "not checked yet: the first build makes the image" in skipped
    assert_nothing_tried_is_left()


def test_instance_whose_owner_may_not_be_mapped_is_reported_with_the_cause() -> None:
    outcome = try_instance(Account("nobody", 4711, 4711, in_group=False, in_session=False))
    assert not outcome.ok
    assert "4711" in outcome.output
    assert_nothing_tried_is_left()


@pytest.mark.usefixtures("image")
def test_doctor_asks_an_instance_and_leaves_none_behind(settings: Settings, project: str) -> None:
    checks = doctor(settings)
    assert [check for check in checks if check.status is Status.FAILED] == []
    archive = next(check for check in checks if check.name == "instance-archive")
    assert archive.status is Status.OK
    assert instances(project) == []


def test_archive_that_an_instance_cannot_reach_is_seen(project: str, image: str) -> None:
    seen = look_from_inside(project, image, "", {"http_proxy": "http://127.0.0.1:1"})
    assert seen["address"]
    assert seen["archive"] != "ok"
    assert instances(project) == []


def test_ctrl_c_leaves_no_instance_behind(project: str, image: str) -> None:
    program = (
        "from slurm_factory.host.doctor_instance import look_from_inside;"
        f" look_from_inside({project!r}, {image!r}"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"{program}, '', {{}})"],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not any(name.startswith(DOCTOR_PREFIX) for name in instances(project)):
            assert process.poll() is None
        # As a terminal does: to lxc, which runs in the same group, too.
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
    assert process.returncode != 0
    assert instances(project) == []
