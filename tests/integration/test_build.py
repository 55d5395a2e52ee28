"""One command makes a package: what it leaves, how big it is, and that it is the same each time."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fault_tools import MINIMAL, SETUP, Site, copy_cache
from filelock import FileLock
from reproduce_samples import tamper

from slurm_factory.plan.base_setup import load_record

pytestmark = pytest.mark.integration

BuildPackage = Callable[..., Path]


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
def site(fresh_site: Site) -> Site:
    return fresh_site


@pytest.fixture(scope="module")
def first(site: Site, shared: Path) -> Build:
    """The minimal package, compiled with an empty compiler cache and a careless umask."""
    # Others wait for this, rather than compile the same (`compiled` in conftest.py).
    kept = shared / "compiled"
    with FileLock(f"{kept}.lock"):
        old = os.umask(0)
        try:
            built = build(site, *MINIMAL)
        finally:
            os.umask(old)
        if not kept.exists():
            copy_cache(site.cache, kept)
    return built


@pytest.fixture(scope="module")
def second(site: Site, first: Build) -> Build:
    """The same once more, with a full compiler cache, other jobs, and its instance kept."""
    return build(site, *MINIMAL, "--force", "--keep-instance", "--jobs", "5")


def test_base_is_recorded_so_that_up_to_date_can_be_decided(site: Site, first: Build) -> None:
    record = load_record(SETUP, site.cache / "images")
    assert record is not None
    assert record["packages"]


def test_files_are_the_users_own_and_nobody_else_can_change_them(site: Site, first: Build) -> None:
    assert stat.S_IMODE(site.cache.stat().st_mode) == 0o700
    for path in site.cache.rglob("*"):
        status = path.lstat()
        # What instances of root write belongs to an id that nobody has.
        if os.getuid() == 0 and "ccache" in path.relative_to(site.cache).parts[:-1]:
            assert 0 not in {status.st_uid, status.st_gid}, path
        else:
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


def test_package_comes_out_again_without_results_of_earlier_builds(
    site: Site, second: Build
) -> None:
    before = {path: path.stat().st_mtime_ns for path in second.directory.iterdir()}
    instances, staged = site.instances(), site.staged()
    done = site.run("reproduce", second.document["manifest_path"], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["reproduction"]
    assert (found["identical"], found["caches"], found["causes"]) == (True, False, [])
    assert {path: path.stat().st_mtime_ns for path in second.directory.iterdir()} == before
    assert (site.instances(), site.staged()) == (instances, staged)


def test_changed_byte_is_named_where_checksums_hide_it(
    site: Site, second: Build, tmp_path: Path
) -> None:
    shutil.copytree(second.directory, tmp_path / "package")
    manifest = tmp_path / "package" / Path(second.document["manifest_path"]).name
    tamper(manifest, "sbin/slurmctld", hide=True)
    done = site.run("reproduce", str(manifest), "--with-caches", "--json")
    assert done.returncode == 6, done.stderr
    found = json.loads(done.stdout)["reproduction"]
    tarball, *others = found["files"]
    assert [each["path"] for each in tarball["differences"]] == ["software/sbin/slurmctld"]
    assert "ELF: " in tarball["differences"][0]["detail"]
    assert tarball["problem"] == ""
    assert all(each["identical"] for each in others)
    assert (found["identical"], found["explained"]) == (False, False)


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
