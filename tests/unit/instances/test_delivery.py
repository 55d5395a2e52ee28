"""What an instance on another LXD gets instead of mounts, by a tar that is real."""

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from plan_samples import sample_settings

from slurm_factory.exceptions import LXDError
from slurm_factory.instances import delivery as deliveries
from slurm_factory.instances.delivery import Delivery, devices_for
from slurm_factory.instances.instance import Instance, Mount
from slurm_factory.instances.this_machine import HostExecutor
from slurm_factory.job import Place

PLACE = Place("m1", "x86_64", 2, 1 << 32, clustered=True)
ENTRY = {"expanded_devices": {"root": {"type": "disk", "path": "/", "pool": "fast"}}}


class CountingExecutor(HostExecutor):
    """This machine as the instance."""

    def __init__(self) -> None:
        super().__init__({"PATH": os.environ["PATH"]})
        self.commands: list[list[str]] = []

    def execute_popen(self, command: list[str], **arguments: Any) -> subprocess.Popen[str]:
        self.commands.append(command)
        return super().execute_popen(command, **arguments)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    directory = tmp_path / "here"
    (directory / "sources/deep").mkdir(parents=True)
    (directory / "sources/deep/slurm.tar.gz").write_bytes(os.urandom(1 << 20))
    (directory / "sources/other.tar.gz").write_text("other")
    return directory


@pytest.fixture
def instance(here: Path, tmp_path: Path) -> Instance:
    cache = tmp_path / "there"
    cache.mkdir()
    executor = CountingExecutor()
    mounts = (
        Mount(here / "sources"),
        Mount(here / "whole", whole=True),
        Mount(tmp_path / "results", at=PurePosixPath("packages")),
        Mount(here / "ccache", writable=True),
    )
    return Instance(
        "build-x",
        executor,
        here,
        PurePosixPath(cache),
        PurePosixPath(tmp_path / "build"),
        mounts=mounts,
        delivery=Delivery(
            executor, here, mounts, PurePosixPath(cache), elsewhere=(here / "ccache",)
        ),
    )


def files_there(instance: Instance) -> list[str]:
    cache = Path(instance.cache)
    return sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file())


def sent(instance: Instance) -> int:
    assert isinstance(instance.executor, CountingExecutor)
    return sum("tar" in command for command in instance.executor.commands)


def test_a_file_is_there_once_its_path_is_asked_for_and_is_sent_once(
    instance: Instance, here: Path
) -> None:
    source = here / "sources/deep/slurm.tar.gz"
    for _ in range(3):
        path = instance.inside(source)
    assert Path(path).read_bytes() == source.read_bytes()
    assert files_there(instance) == ["sources/deep/slurm.tar.gz"]
    assert sent(instance) == 1


def test_a_directory_brings_all_in_it_and_then_only_what_is_new(
    instance: Instance, here: Path
) -> None:
    instance.inside(here / "sources")
    (here / "sources/new").write_text("new")
    (here / "sources/other.tar.gz").write_text("changed")
    instance.inside(here / "sources")
    assert len(files_there(instance)) == 3
    assert (Path(instance.cache) / "sources/other.tar.gz").read_text() == "changed"
    assert sent(instance) == 2


def test_links_are_not_followed(instance: Instance, here: Path) -> None:
    (here / "sources/link").symlink_to("/etc/passwd")
    (here / "sources/all").symlink_to("/etc")
    instance.inside(here / "sources")
    assert not [name for name in files_there(instance) if "link" in name or "all" in name]


def test_what_is_mounted_there_is_not_sent(instance: Instance, here: Path) -> None:
    (here / "ccache").mkdir()
    (here / "ccache/object").write_text("x")
    instance.inside(here / "ccache")
    assert files_there(instance) == []


def test_commands_find_what_no_parameter_names(instance: Instance, here: Path) -> None:
    (here / "whole").mkdir()
    (here / "whole/found").write_text("x")
    instance.run(["true"], {}, lambda _: None, what="true")
    assert files_there(instance) == ["whole/found"]


def test_a_directory_from_elsewhere_is_where_its_mount_says(
    instance: Instance, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/index").write_text("x")
    assert instance.inside(tmp_path / "results/index") == instance.cache / "packages/index"
    assert files_there(instance) == ["packages/index"]


def test_a_stream_that_is_refused_is_an_error_of_lxd(instance: Instance, here: Path) -> None:
    Path(instance.cache).rmdir()
    with pytest.raises(LXDError) as caught:
        instance.inside(here / "sources")
    assert "No such file" in caught.value.details


def test_mounts_become_volumes_and_shared_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr(deliveries, "lxc", lambda *words, **_: made.append(words))
    settings = sample_settings(tmp_path / "cache").model_copy(
        update={"remote_shared_dir": Path("/srv/shared")}
    )
    mounts = (
        Mount(settings.source_cache_dir),
        Mount(settings.work_dir / "x/input", shared=False),
        Mount(settings.ccache_dir / "24.11.5-abc", writable=True),
    )
    there = devices_for(mounts, ENTRY, PLACE, settings)
    assert there.devices == {
        "mount-0": {
            "type": "disk",
            "path": "/opt/slurm-factory-cache/spack-sourcecache",
            "source": "/srv/shared/spack-sourcecache",
            "readonly": "true",
        },
        "mount-2": {
            "type": "disk",
            "path": "/opt/slurm-factory-cache/ccache/24.11.5-abc",
            "pool": "fast",
            "source": "slurm-factory-ccache-24.11.5-abc",
        },
    }
    assert there.elsewhere == (settings.source_cache_dir, settings.ccache_dir / "24.11.5-abc")
    [volume] = made
    assert volume[-2:] == ("--target", "m1")
