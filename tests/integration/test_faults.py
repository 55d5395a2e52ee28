"""What goes wrong on real machines ends in one message, the right exit code, and no litter."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from fault_tools import (
    MINIMAL,
    NOBODY,
    Site,
    Terminal,
    as_stranger,
    assert_one_message,
    copy_image,
    in_memory_mebibytes,
    make_cache,
    own_project,
    source_in,
)
from file_systems import as_root, fill, small_file_system
from paths import PROGRAMS

from slurm_factory.config import Settings
from slurm_factory.instances.lxc import delete_unfinished, instance_names, lxc, wait_for_operations

pytestmark = pytest.mark.integration

FAULTY = PROGRAMS / "faulty.py"
UNREACHABLE = "http://127.0.0.1:9"
NEEDED_MEBIBYTES = 1100
"""A little more than a build asks for at the start."""


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
    handler = partial(_SilentHandler, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield directory, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def offline(site: Site) -> Site:
    """Nothing but this machine can be reached."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), UNREACHABLE)
    upper = {name.upper(): value for name, value in proxies.items()}
    return site.having(
        **proxies, **upper, no_proxy="127.0.0.1", SLURM_FACTORY_DEBIAN_MIRROR=UNREACHABLE
    )


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


def test_cache_directory_that_fills_up_is_reported_and_leaves_no_artifact(
    lxd: Settings, site: Site, tmp_path: Path
) -> None:
    warmth = in_memory_mebibytes(site.cache / "ccache")
    with small_file_system(tmp_path / "small", NEEDED_MEBIBYTES + warmth) as directory:
        make_cache(directory, lxd, site.cache / "ccache")
        place = replace(site, cache=directory)
        with Terminal(place, *MINIMAL) as terminal:
            terminal.wait_for("Compile …")
            fill(directory)
            code = terminal.finish(300)
        done = subprocess.CompletedProcess((), code, "", terminal.text.replace("\r", ""))
        assert_one_message(done, 7, "could not be written|is full")
        assert place.published() == []
        assert place.run("clean", "--yes").returncode == 0
        assert place.instances() == []
        assert place.staged() == []


# LXD


@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.3])
def test_copy_that_was_broken_off_does_not_appear_after_all(site: Site, seconds: float) -> None:
    name = f"build-20260101-000000-{round(seconds * 1000)}"
    base = next(n for n in instance_names(site.project) if n.startswith("base-instance-"))
    copy = ["lxc", "--project", site.project, "copy", f"local:{base}", f"local:{name}"]
    with suppress(subprocess.TimeoutExpired):
        # Which kills it: LXD is left with what it was asked for.
        subprocess.run(copy, timeout=seconds, check=True)
    assert delete_unfinished(name, site.project)
    wait_for_operations(name, site.project)
    assert name not in instance_names(site.project)


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


@pytest.fixture(scope="module")
def bare_site(
    lxd: Settings, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A project that has no base instance yet, and no network."""
    with own_project(lxd, with_base=False) as project:
        copy_image(lxd, project, tmp_path_factory.mktemp("image"))
        lxc("profile", "device", "remove", "default", "eth0", project=project)
        yield replace(site, project=project)


def test_base_instance_without_network_is_reported_and_not_kept(bare_site: Site) -> None:
    done = bare_site.run(*MINIMAL, "--force")
    assert_one_message(done, 3, "instance cannot resolve", "slurm.factory doctor")
    assert bare_site.instances() == []
    assert bare_site.bases() == []
    assert bare_site.staged() == []


def test_ctrl_c_while_the_base_is_made_leaves_none_that_later_builds_would_copy(
    bare_site: Site,
) -> None:
    nic = ("eth0", "nic", "name=eth0", "network=lxdbr0")
    lxc("profile", "device", "add", "default", *nic, project=bare_site.project)
    with Terminal(bare_site, "--verbose", *MINIMAL, "--force") as terminal:
        terminal.wait_for("Setting up")
        terminal.press_ctrl_c()
        assert terminal.finish() == 130
    assert bare_site.instances() == []
    assert bare_site.bases() == []


# Builds that fail


def test_patch_that_does_not_fit_names_itself_and_keeps_the_instance(site: Site) -> None:
    done = _run_faulty(site, "patch")
    assert_one_message(done, 1, "unpack-slurm.sh", "FAILED", "lxc --project .* exec local:build-")


def test_compiler_error_reaches_the_user_with_the_way_into_the_instance(site: Site) -> None:
    done = _run_faulty(site, "compiler-flags")
    assert_one_message(done, 1, "make-slurm.sh", "error:", "lxc --project .* exec local:build-")


def test_feature_that_configure_disables_fails_the_build(site: Site) -> None:
    done = _run_faulty(site, "promise")
    assert_one_message(done, 1, "disabled.*readline", "~readline")


def test_memory_limit_under_which_compilers_would_crawl_is_refused(site: Site) -> None:
    done = site.having(SLURM_FACTORY_MEMORY_LIMIT="100MiB").run(*MINIMAL, "--force")
    assert_one_message(done, 2, "memory", "SLURM_FACTORY_MEMORY_LIMIT")


def _run_faulty(site: Site, fault: str) -> subprocess.CompletedProcess[str]:
    place = replace(site, program=(sys.executable, str(FAULTY), fault))
    done = place.run(*MINIMAL, "--force")
    assert len(site.instances()) == 1
    site.run("clean", "--yes")
    assert site.instances() == []
    return done
