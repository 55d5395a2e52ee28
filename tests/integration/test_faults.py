"""What goes wrong on real machines ends in one message, the right exit code, and no litter."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_cases import offline, served
from fault_tools import (
    MINIMAL,
    NOBODY,
    Site,
    as_stranger,
    assert_one_message,
    make_cache,
    source_in,
)
from file_systems import as_root, small_file_system

from slurm_factory.config import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def cache(lxd: Settings, tmp_path: Path) -> Path:
    """A cache directory with nothing but the source."""
    directory = tmp_path / "cache"
    directory.mkdir()
    return make_cache(directory, lxd)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory and the URL under which it is served."""
    directory = tmp_path / "mirror"
    directory.mkdir()
    with served(directory) as url:
        yield directory, url


# Sources


def test_damaged_source_without_any_network_is_reported_and_not_built(
    lxd: Settings, cache: Path
) -> None:
    source_in(cache).write_bytes(b"damaged")
    done = offline(Site(cache, lxd.project_name)).run(*MINIMAL)
    assert_one_message(done, 4, "Slurm 24.11.5", "SLURM_FACTORY_SOURCE_MIRRORS")
    assert "damaged" in done.stderr
    assert Site(cache, lxd.project_name).staged() == []


@pytest.mark.parametrize("content", [b"another file", None], ids=["other bytes", "truncated"])
def test_mirror_that_serves_another_file_is_reported_and_leaves_the_cache_alone(
    lxd: Settings, cache: Path, mirror: tuple[Path, str], content: bytes | None
) -> None:
    source = source_in(cache)
    whole = source.read_bytes()
    source.unlink()
    directory, url = mirror
    for name in ("slurm-24-11-5-1.tar.gz", "slurm-wlm_24.11.5.orig.tar.gz"):
        (directory / name).write_bytes(content or whole[:-1000])
    done = (
        offline(Site(cache, lxd.project_name))
        .having(SLURM_FACTORY_SOURCE_MIRRORS=url)
        .run(*MINIMAL)
    )
    assert_one_message(done, 4, "Slurm 24.11.5")
    assert not source.exists()


# The cache directory


def test_cache_directory_that_cannot_be_written_is_reported(lxd: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = Site(tmp_path / "file" / "cache", lxd.project_name).run(*MINIMAL)
    assert_one_message(done, 7, "cache directory", "SLURM_FACTORY_CACHE_DIR")


def test_cache_directory_with_too_little_room_is_reported_before_anything_is_done(
    lxd: Settings, tmp_path: Path
) -> None:
    with small_file_system(tmp_path / "small", 64) as cache:
        done = Site(cache, lxd.project_name).run(*MINIMAL)
    assert_one_message(done, 7, "cache directory", r"6\d MiB are free")


# LXD


def test_machine_without_lxd_is_shown_how_to_get_it(cache: Path) -> None:
    done = Site(cache).having(PATH="/nonexistent").run(*MINIMAL)
    assert_one_message(done, 3, "LXD is not installed", "slurm.factory setup")


def test_user_without_permission_for_lxd_is_shown_how_to_get_it() -> None:
    # Not in pytest's directory, which is closed to others.
    with tempfile.TemporaryDirectory() as cache:
        as_root("chown", str(NOBODY), cache)
        done = as_stranger(Site(Path(cache)).having(HOME=cache)).run(*MINIMAL)
        as_root("chown", "--recursive", str(os.getuid()), cache)
    assert_one_message(done, 3, "do not have access to LXD", "slurm.factory setup")


def test_lxd_that_does_not_run_is_reported(cache: Path, tmp_path: Path) -> None:
    done = Site(cache).having(LXD_DIR=str(tmp_path)).run(*MINIMAL)
    assert_one_message(done, 3, "does not run", "slurm.factory setup")


def test_lxd_that_refuses_connections_is_reported(cache: Path, tmp_path: Path) -> None:
    # What a daemon that was killed leaves behind.
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "unix.socket"))
    done = Site(cache).having(LXD_DIR=str(tmp_path)).run(*MINIMAL)
    assert_one_message(done, 3, "does not run", "slurm.factory setup")


def test_memory_limit_under_which_compilers_would_crawl_is_refused(
    lxd: Settings, cache: Path
) -> None:
    site = Site(cache, lxd.project_name).having(SLURM_FACTORY_MEMORY_LIMIT="100MiB")
    done = site.run(*MINIMAL)
    assert_one_message(done, 2, "memory", "SLURM_FACTORY_MEMORY_LIMIT")
