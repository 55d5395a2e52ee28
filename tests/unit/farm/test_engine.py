"""Where a matrix builds: this machine, or the members of a remote."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_lxd import FakeLxd, configure_lxc, make_certificate, make_cluster
from plan_samples import sample_settings
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.exceptions import LXDError
from slurm_factory.farm.engine import Engine, find_engine
from slurm_factory.farm.room import Machine
from slurm_factory.instances.remote import open_remote, variables_outside

RESOURCES = {"cpu": {"total": 4}, "memory": {"total": 8 << 30, "used": 1 << 30}}


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FakeLxd]]:
    for name in ("server", "client"):
        make_certificate(tmp_path, name)
    with FakeLxd(tmp_path) as first, FakeLxd(tmp_path) as second:
        servers = {"m1": first, "m2": second}
        make_cluster(servers, m2={"architecture": "aarch64", "groups": ["arm"]})
        for server in servers.values():
            server.answers["/1.0/resources"] = RESOURCES
        configure_lxc(tmp_path / "lxc", tmp_path, farm=first.url)
        monkeypatch.setenv("LXD_CONF", str(tmp_path / "lxc"))
        yield servers


def there(tmp_path: Path, **changes: Any) -> tuple[Engine, list[str]]:
    """The engine of the remote, and warnings."""
    settings = sample_settings(tmp_path / "cache", remote="farm", **changes)
    with open_remote("farm", tmp_path / "remotes"), Listener() as reporter:
        return find_engine(settings, reporter), reporter.warnings


def here(tmp_path: Path, **changes: Any) -> Engine:
    with Listener() as reporter:
        return find_engine(sample_settings(tmp_path / "cache", **changes), reporter)


@pytest.mark.usefixtures("servers")
def test_members_of_a_remote_are_machines_by_their_architecture(tmp_path: Path) -> None:
    engine, warnings = there(tmp_path)
    machine = Machine(4, 7 << 30)
    assert engine.machines == {"x86_64": [machine], "aarch64": [machine]}
    assert (engine.remote, engine.words, warnings) == ("farm", ("--remote=farm",), [])


@pytest.mark.usefixtures("servers")
def test_a_target_limits_which_members_count(tmp_path: Path) -> None:
    engine, _ = there(tmp_path, target="@arm", matrix_memory="1GiB", matrix_cores=3)
    assert list(engine.machines) == ["aarch64"]
    assert engine.words == ("--remote=farm", "--target=@arm")
    assert (engine.limit.memory, engine.limit.cores) == (1 << 30, 3)


def test_a_member_that_does_not_answer_counts_for_nothing(
    tmp_path: Path, servers: dict[str, FakeLxd]
) -> None:
    for server in servers.values():
        del server.answers["/1.0/resources"]
        server.answers["/1.0/resources?target=m1"] = RESOURCES
    engine, [warning] = there(tmp_path)
    assert list(engine.machines) == ["x86_64"]
    assert "The member m2 does not answer" in warning
    for server in servers.values():
        del server.answers["/1.0/resources?target=m1"]
    with pytest.raises(LXDError, match="refused a question"):
        there(tmp_path)


@pytest.mark.usefixtures("servers")
def test_builds_there_find_the_lxd_of_this_machine_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LXD_DIR", "/mine")
    monkeypatch.delenv("LXD_SOCKET", raising=False)
    engine, _ = there(tmp_path)
    assert engine.variables["LXD_DIR"] == "/mine"
    assert "LXD_SOCKET" not in engine.variables
    assert os.environ["LXD_DIR"] == "/mine"
    assert variables_outside() == dict(os.environ)


def test_this_machine_has_its_cpus_its_memory_and_the_disk_of_the_cache(tmp_path: Path) -> None:
    engine = here(tmp_path)
    [machine] = engine.machines[platform.machine()]
    assert machine.cores == len(os.sched_getaffinity(0))
    assert engine.limit.disk > 0
    assert (engine.remote, engine.words) == ("", ())
    [machine] = here(tmp_path, matrix_cores=99, matrix_memory="3GiB").machines[platform.machine()]
    assert machine == Machine(99, 3 << 30)
    assert here(tmp_path, matrix_disk="1GiB").limit.disk == 1 << 30


def test_nothing_is_a_limit_that_no_setting_names(tmp_path: Path) -> None:
    settings: Settings = sample_settings(tmp_path / "cache")
    assert settings.matrix_cores is None
    _, whole = here(tmp_path).divide([platform.machine()] * 3, 3, None)
    assert whole.tasks == 3
