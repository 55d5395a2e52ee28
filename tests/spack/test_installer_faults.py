"""Full disks and killed builds with the real Spack: the messages, and the state for the next
build."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from random import Random
from threading import Thread
from typing import Any

import pytest
import real_spack
from file_systems import fill, small_file_system
from plan_samples import sample_settings
from spack_samples import build_on_this_machine
from toys import Toys

from slurm_factory.buildcaches.layout import ENTRIES
from slurm_factory.config import Settings
from slurm_factory.exceptions import OutputError, SlurmFactoryError, SpackError
from slurm_factory.recipes.spack.cache import index_is_current, refresh_indexes
from slurm_factory.recipes.spack.install import install
from slurm_factory.recipes.spack.lock import Lock
from slurm_factory.recipes.spack.session import InstancePaths, Spack

pytestmark = pytest.mark.spack

MEBIBYTE = 1 << 20
SMALL = 4
"""Mebibytes that a small file system has, or that are left of a large one."""
MUCH = 8
"""Mebibytes of a package that does not fit there."""
ROOMY = 32
COMPILE = f'which("dd")("if=/dev/zero", "of=objects", "bs=1M", "count={MUCH}")'
INSTALL = f'which("dd")("if=/dev/urandom", "of=" + prefix.lib.big, "bs=1M", "count={MUCH}")'
TALK = f'''which("sh")("-c", """
dd if=/dev/zero of=objects bs=1M count={MUCH}; seq 9999; cp data copy""")'''
"""The disk is full long before what fails for it, and the log takes no line any more."""
LARGE = Random(1).randbytes(MUCH * MEBIBYTE)
BUILT, CACHED = "built", "from the build cache"


@dataclass(frozen=True)
class Factory:
    """Builds toys as the recipe builds Slurm."""

    toys: Toys
    lock: Lock
    spack: Spack
    screen: StringIO

    def build(self) -> dict[str, str]:
        """Build all; returns how each package came."""
        refresh_indexes(self.spack)
        states = install(self.spack, self.lock).states.values()
        return {s.node.name: CACHED if s.from_cache else BUILT for s in states if s.done}

    def failure(self, kind: type[SlurmFactoryError]) -> SlurmFactoryError:
        """Of a build that must fail in this way."""
        with pytest.raises(kind) as caught:
            self.build()
        assert "Traceback" not in f"{caught.value} {self.screen.getvalue()}"
        return caught.value


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "site")


@pytest.fixture
def toys(spack: real_spack.Spack, tmp_path: Path, settings: Settings) -> Toys:
    """`toydep`, for one that needs it."""
    toys = Toys(spack, tmp_path, settings.buildcache_dir)
    toys.recipe("toydep")
    return toys


@pytest.fixture
def factory(toys: Toys, settings: Settings) -> Iterator[Callable[[], Factory]]:
    """Decides what to build, when all recipes are there."""
    paths = InstancePaths(
        program=PurePosixPath(toys.spack.program),
        python=PurePosixPath(toys.spack.python),
        project=PurePosixPath(toys.project),
        store=PurePosixPath(toys.here / "store"),
    )
    screen, build_dir = StringIO(), toys.here / "build"
    with ExitStack() as stack:

        def start() -> Factory:
            lock = toys.lock()
            build = build_on_this_machine(settings, paths, screen, build_dir)
            return Factory(toys, lock, stack.enter_context(build), screen)

        yield start


@contextmanager
def small(directory: Path, mebibytes: int = SMALL) -> Iterator[Path]:
    """A small file system, where one can be mounted."""
    with ExitStack() as stack:
        try:
            stack.enter_context(small_file_system(directory, mebibytes))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no small file system can be mounted: {error}")
        yield directory


# --- full disks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("full", "during", "phase"),
    [
        pytest.param("stage", {"extra": COMPILE}, "install", id="objects"),
        pytest.param("stage", {"extra": TALK}, "install", id="objects and log"),
        pytest.param("stage", {"data": LARGE}, "staging", id="source"),
        pytest.param("store", {"extra": INSTALL}, "install", id="prefix"),
    ],
)
def test_a_full_disk_of_the_instance_is_reported_and_costs_only_the_package_that_met_it(
    toys: Toys, factory: Callable[[], Factory], full: str, during: dict[str, Any], phase: str
) -> None:
    toys.recipe("toymain", needs="toydep", **during)
    here = factory()
    with small(toys.here / full):
        error = here.failure(SpackError)
    assert error.brief == f"toymain@1.0 failed in phase {phase}: the disk of the instance is full."
    assert "No space left on device" in error.details
    assert "lxc storage list" in error.resolution
    toys.forget()
    assert here.build() == {"toydep": CACHED, "toymain": BUILT}


def test_a_disk_of_the_instance_that_what_is_in_the_build_cache_fills_is_reported(
    toys: Toys, factory: Callable[[], Factory]
) -> None:
    toys.recipe("toymain", needs="toydep", extra=INSTALL)
    here = factory()
    here.build()
    toys.forget()
    with small(toys.here / "store"):
        error = here.failure(SpackError)
    assert error.brief.startswith("toymain@1.0 failed")
    assert error.brief.endswith("the disk of the instance is full.")
    assert here.build() == {"toydep": CACHED, "toymain": CACHED}


def test_a_full_cache_directory_is_reported_and_what_was_half_pushed_hinders_no_later_build(
    toys: Toys, factory: Callable[[], Factory], settings: Settings
) -> None:
    toys.recipe("toymain", needs="toydep", data=LARGE)
    with small(settings.cache_dir, ROOMY):
        here = factory()
        filling = fill(settings.cache_dir)
        os.truncate(filling, filling.stat().st_size - SMALL * MEBIBYTE)
        error = here.failure(OutputError)
        cache = settings.cache_dir
        assert error.brief == (
            f"toymain@1.0 failed in phase install: the cache directory {cache} is full."
        )
        assert "slurm-factory clean" in error.resolution
        filling.unlink()
        toys.forget()
        assert here.build() == {"toydep": CACHED, "toymain": BUILT}
        toys.forget()
        assert here.build() == {"toydep": CACHED, "toymain": CACHED}
        assert index_is_current(settings.buildcache_dir)


@pytest.mark.parametrize("left", [0.0, 0.5], ids=["nothing", "half of it"])
def test_a_package_whose_entry_in_the_build_cache_was_cut_off_is_built_again(
    toys: Toys, factory: Callable[[], Factory], settings: Settings, left: float
) -> None:
    toys.recipe("toymain", needs="toydep")
    here = factory()
    here.build()
    (entry,) = (settings.buildcache_dir / ENTRIES).glob("toydep/*")
    os.truncate(entry, int(entry.stat().st_size * left))
    toys.forget()
    assert here.build() == {"toydep": BUILT, "toymain": CACHED}
    assert f"{entry.name.removesuffix('.spec.manifest.json')} is damaged" in here.screen.getvalue()
    toys.forget()
    assert here.build() == {"toydep": CACHED, "toymain": CACHED}


# --- killed builds ------------------------------------------------------------------------------


def hold(fifo: Path) -> str:
    """Let a package write its process group into a FIFO, if it is there, and wait for ever."""
    group = f"cut -d ' ' -f 5 /proc/$$/stat > {fifo}"
    command = f'test ! -p {fifo} || {{ touch "$1/half-made"; {group}; cat {fifo}; }}'
    return f'which("sh")("-c", {command!r}, "sh", prefix)'


def kill_group_that_writes_into(fifo: Path) -> None:
    os.killpg(int(fifo.read_text()), signal.SIGKILL)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("forget", "came"),
    [(False, {"toymain": BUILT}), (True, {"toydep": CACHED, "toymain": BUILT})],
    ids=["same instance", "new instance"],
)
def test_a_build_after_one_that_was_killed_makes_only_the_broken_package_again(
    toys: Toys, factory: Callable[[], Factory], forget: bool, came: dict[str, str]
) -> None:
    fifo = toys.here / "fifo"
    os.mkfifo(fifo)
    toys.recipe("toymain", needs="toydep", extra=hold(fifo))
    here = factory()
    killer = Thread(target=kill_group_that_writes_into, args=[fifo], daemon=True)
    killer.start()
    here.failure(SpackError)
    killer.join(60)
    assert not killer.is_alive()
    (left,) = toys.here.glob("store/toymain-*/half-made")
    fifo.unlink()
    if forget:
        toys.forget()
    assert here.build() == came
    assert not left.exists()
    assert (left.parent / "lib/data").read_text() == "toymain"
