"""One command makes a package: what it leaves, how big it is, and that it is the same each time."""

import json
import os
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from fault_tools import (
    MINIMAL,
    PLAN,
    RELEASE,
    SETUP,
    WARM,
    Site,
    machine_for_builds,
    make_cache,
    own_project,
    run_there,
    share_ccache,
)
from slurm_plugins import plugins_in, unexplained

from slurm_factory.config import Settings
from slurm_factory.fetch.sources import cached
from slurm_factory.fetch.upstream import slurm_source
from slurm_factory.package.manifest import load_manifest
from slurm_factory.plan.base_setup import load_record
from slurm_factory.plan.features import table
from slurm_factory.plan.releases import find_release

pytestmark = pytest.mark.integration

BuildPackage = Callable[..., Path]
MEGABYTE = 1_000_000
GPU_PLUGINS = {f"software/lib/slurm/gpu_{kind}.so" for kind in ("nvml", "rsmi", "oneapi")}
PLACE_TELLING = {"software/lib/libpmi.so.0.0.0", "software/lib/nss/libnss_slurm.so.2"}
"""Libtool gave them the run path of the build directory, whose length stays when it is replaced."""
GPU_LIBRARY = re.compile(r"/lib(nvidia-ml|cuda|rocm_smi|amd_smi|ze_loader|ze_intel)[^/]*\.so")


@dataclass(frozen=True)
class Build:
    """What one run of the command left."""

    document: dict[str, Any]
    checksums: dict[str, str]

    @property
    def directory(self) -> Path:
        """Where its files lie."""
        return Path(self.document["manifest_path"]).parent

    @property
    def tarballs(self) -> dict[str, str]:
        """Checksums of the tarballs, by name."""
        return {n: digest for n, digest in self.checksums.items() if n.endswith(".tar.gz")}


def build(site: Site, *arguments: str) -> Build:
    """Run a build that must succeed."""
    document = site.build(*arguments)
    files = document["manifest"]["files"]
    return Build(document, {file["name"]: file["sha256"] for file in files})


@pytest.fixture(scope="module")
def site(
    lxd: Settings, build_package: BuildPackage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A place of its own, with a base instance and an empty compiler cache."""
    build_package(RELEASE, "same")
    cache = make_cache(tmp_path_factory.mktemp("build"), lxd)
    with own_project(lxd) as project:
        yield Site(cache, project)


@pytest.fixture(scope="module")
def first(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The minimal package, compiled with an empty compiler cache and a careless umask."""
    old = os.umask(0)
    try:
        built = build(site, *MINIMAL)
    finally:
        os.umask(old)
    # test_faults.py builds the same.
    share_ccache(site.cache / "ccache", tmp_path_factory.getbasetemp() / WARM)
    return built


@pytest.fixture(scope="module")
def second(site: Site, first: Build) -> Build:
    """The same once more, with a full compiler cache, other jobs, and its instance kept."""
    return build(site, *MINIMAL, "--force", "--keep-instance", "--jobs", "5")


def test_base_is_recorded_so_that_up_to_date_can_be_told(site: Site, first: Build) -> None:
    record = load_record(SETUP, site.cache / "images")
    assert record is not None
    assert record["packages"]


def test_files_are_the_users_own_and_nobody_else_can_change_them(site: Site, first: Build) -> None:
    assert stat.S_IMODE(site.cache.stat().st_mode) == 0o700
    for path in site.cache.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid()), path
        if not path.is_symlink():
            assert not status.st_mode & 0o022, path


def test_checksums_hold(first: Build) -> None:
    [file] = [name for name in first.checksums if name.endswith(".sha256")]
    command = ["sha256sum", "--check", "--strict", file]
    subprocess.run(command, cwd=first.directory, check=True, capture_output=True)
    checked = {line.split()[-1] for line in (first.directory / file).read_text().splitlines()}
    assert checked == {*first.checksums} - {file}


def test_successful_build_leaves_no_instance_and_nothing_staged(site: Site, first: Build) -> None:
    assert site.staged() == []
    assert site.instances() == []


def test_unforced_build_of_the_same_plan_asks_neither_lxd_nor_the_network_nor_slow_libraries(
    site: Site, first: Build
) -> None:
    logs = set((site.cache / "logs").iterdir())
    watched = replace(site, program=(sys.executable, "-X", "importtime", "-m", "slurm_factory"))
    # No lxc is found there, without which builds end before they download.
    done = watched.having(PATH="").run(*MINIMAL, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["up_to_date"] is True
    assert document["manifest"] == first.document["manifest"]
    assert set((site.cache / "logs").iterdir()) == logs
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "slurm_factory.up_to_date" in imported
    assert not imported & {"craft_providers", "requests"}


def test_list_shows_the_build_as_complete(site: Site, first: Build) -> None:
    shown = json.loads(site.run("list", "--json").stdout)
    assert [(b["manifest_path"], b["problem"]) for b in shown["builds"]] == [
        (first.document["manifest_path"], "")
    ]


def test_second_build_with_a_full_compiler_cache_gives_the_same_bytes(
    first: Build, second: Build
) -> None:
    assert second.document["up_to_date"] is False
    assert second.tarballs == first.tarballs
    assert len(second.tarballs) == 2


def test_kept_instance_stays_until_clean_removes_it(site: Site, second: Build) -> None:
    [kept] = site.instances()
    dry = site.run("clean", "--dry-run")
    assert kept in dry.stdout
    assert site.instances() == [kept]
    unasked = site.run("clean")
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    assert site.instances() == [kept]
    assert site.run("clean", "--yes").returncode == 0
    assert site.instances() == []
    assert site.bases() != []
    assert (second.directory / next(iter(second.tarballs))).exists()


def test_gpu_build_has_the_plugins_and_no_library_of_a_vendor(
    lxd: Settings, build_package: BuildPackage
) -> None:
    standard = build_package(RELEASE, "same")
    # With the caches and the base of this site: it takes the same objects but for the plugins.
    site = Site(lxd.cache_dir, lxd.project_name)
    gpu = build(site, "build", *PLAN, "--gpu")
    software = _software(gpu.directory / Path(gpu.document["manifest_path"]).name)
    with tarfile.open(software) as archive:
        names = set(archive.getnames())
    assert names >= GPU_PLUGINS
    assert [name for name in names if GPU_LIBRARY.search(name)] == []
    size = _software(standard).stat().st_size
    assert size <= 25 * MEGABYTE
    assert software.stat().st_size <= size + MEGABYTE


def test_destructive_mode_gives_the_same_files_and_leaves_the_machine_alone(
    lxd: Settings, site: Site, first: Build, tmp_path: Path
) -> None:
    with machine_for_builds(site, make_cache(tmp_path, lxd)) as machine:
        run_there(machine, "occupy.sh")
        document = machine.build(*MINIMAL, "--destructive-mode")
        assert run_there(machine, "changes.sh") == ""
    inside = Path(document["manifest_path"])
    built = contents(_software(tmp_path / "builds" / RELEASE / inside.name))
    expected = contents(_software(Path(first.document["manifest_path"])))
    assert built.keys() == expected.keys()
    assert {name for name in built if built[name] != expected[name]} <= PLACE_TELLING


def contents(tarball: Path) -> dict[str, bytes | str]:
    """What each member of a tarball holds, or where it leads."""
    with tarfile.open(tarball) as archive:
        members = ((member, archive.extractfile(member)) for member in archive if member.isreg())
        files = {member.name: file.read() for member, file in members if file}
        return files | {m.name: m.linkname for m in archive.getmembers() if m.issym()}


def _software(manifest: Path) -> Path:
    return manifest.with_name(manifest.name.replace("-manifest.json", "-software.tar.gz"))


def test_a_plugin_of_slurm_is_in_the_package_or_known_to_be_missing(
    build_package: BuildPackage, lxd: Settings
) -> None:
    path = build_package("24.11.5")
    manifest = load_manifest(path)
    archive = cached(slurm_source(find_release("24.11.5"), ()), lxd.source_cache_dir)
    assert archive is not None
    with tarfile.open(path.with_name(manifest.identity.software_tarball)) as software:
        files = [PurePosixPath(name) for name in software.getnames()]
    present = {file.stem for file in files if file.parent == PurePosixPath("software/lib/slurm")}
    left_out = [feature for feature in table() if feature.name not in manifest.features]
    assert unexplained(plugins_in(archive), present, left_out) == set()
