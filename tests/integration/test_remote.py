"""Builds on a real cluster of three members: the same bytes, a member that dies, nothing left."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fault_tools import MINIMAL, TWO_CELLS, Site, make_cache, wait_until
from lxd_cluster import REMOTE, Cluster

from slurm_factory.config import Settings
from slurm_factory.instances.lxc import project_exists

pytestmark = pytest.mark.integration

LIMIT_SECONDS = 120
"""So long the death of a member may take to be noticed: LXD says offline after 11 to 40 s."""


@pytest.fixture(scope="module")
def cluster(lxd: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.getuid() != 0:
        pytest.skip("only root can make members with namespaces of their own")
    directory = Path("/var/tmp") / f"slurm-factory-cluster-{secrets.token_hex(3)}"
    cluster = Cluster(directory, "cluster")
    try:
        cluster.start()
        cluster.fill(lxd, tmp_path_factory.mktemp("base"))
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="module")
def here(lxd: Settings, compiled: Path) -> Path:
    """A cache directory (host) with what a build on this machine has made."""
    return compiled


@pytest.fixture(scope="module")
def site(cluster: Cluster, lxd: Settings, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A place of its own whose LXD is the cluster."""
    cache = make_cache(tmp_path_factory.mktemp("remote") / "cache", lxd)
    variables = {"LXD_CONF": str(cluster.configuration), "SLURM_FACTORY_REMOTE": REMOTE}
    return Site(cache, cluster.project, variables)


@pytest.fixture(scope="module")
def first(site: Site) -> dict[str, Any]:
    """The package, compiled where LXD has chosen."""
    return site.build(*MINIMAL)


@contextmanager
def running(site: Site, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A build that goes on."""
    command = [*site.program, *MINIMAL, "--force", *arguments]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=site.variables, text=True, **streams) as build:
        try:
            yield build
        finally:
            build.kill()


def wait_for_one(site: Site, cluster: Cluster, matrix: subprocess.Popen[str]) -> str:
    """A member, not the one that answers for the cluster, on which a build compiles now."""
    found: list[str] = []

    def look() -> bool:
        assert matrix.poll() is None, "it has ended"
        found[:] = [
            member
            for name in cluster.names()
            if name.startswith("build-")
            and not name.endswith("-place")
            and (member := cluster.location(name)) != "m1"
            and compiling(site, name.removeprefix("build-"))
        ]
        return bool(found)

    wait_until(look, LIMIT_SECONDS * 5)
    return found[0]


def compiling(site: Site, build_id: str) -> bool:
    """Whether a build compiles."""
    log = site.cache / "logs" / build_id / "build.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    return "Step: Compile" in text.rpartition("Step done")[2]


def tarballs(document: dict[str, Any]) -> dict[str, str]:
    files = document["manifest"]["files"]
    return {f["name"]: f["sha256"] for f in files if f["name"].endswith(".tar.gz")}


def test_a_package_of_the_cluster_has_the_bytes_of_one_of_this_machine(
    first: dict[str, Any], here: Path
) -> None:
    [manifest] = here.glob("builds/*/*-manifest.json")
    document = {"manifest": json.loads(manifest.read_text())}
    assert tarballs(first) == tarballs(document)
    assert first["manifest"]["build_key"] == document["manifest"]["build_key"]


def test_a_build_leaves_bases_and_a_compiler_cache_only(
    site: Site, cluster: Cluster, first: dict[str, Any]
) -> None:
    assert site.staged() == []
    assert [name for name in cluster.names() if not name.startswith("base-")] == []


def test_a_target_is_the_member_that_builds(site: Site, cluster: Cluster) -> None:
    with running(site, "--target", "m3") as build:
        wait_until(lambda: any(name.startswith("build-") for name in cluster.names()))
        [name] = [name for name in cluster.names() if name.startswith("build-")]
        assert cluster.location(name) == "m3"
        build.terminate()
        assert build.wait(LIMIT_SECONDS) != 0
    assert [name for name in cluster.names() if name.startswith("build-")] == []


def test_an_unknown_target_is_refused_before_anything_is_made(site: Site, cluster: Cluster) -> None:
    done = site.run(*MINIMAL, "--force", "--target", "m9")
    assert done.returncode == 2, done.stderr
    assert "It has m1, m2, m3" in done.stderr


def test_cells_of_a_member_that_dies_while_it_compiles_are_built_on_others(
    site: Site, cluster: Cluster, first: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "matrix.toml"
    file.write_text(TWO_CELLS)
    command = [*site.program, "matrix", str(file), "--parallel", "2", "--force", "--json"]
    with subprocess.Popen(
        command, env=site.variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as matrix:
        lost = wait_for_one(site, cluster, matrix)
        cluster.kill(lost)
        output, _ = matrix.communicate(timeout=LIMIT_SECONDS * 6)
    assert matrix.returncode == 0, output
    cells = json.loads(output)["cells"]
    assert [cell["state"] for cell in cells] == ["built", "built"]
    assert sorted(cell["attempts"] for cell in cells) == [1, 2]
    assert len(list((site.cache / "builds").glob("*/*-manifest.json"))) == len(cells)
    assert {cluster.location(name) for name in cluster.names() if "build-" in name} <= {lost}
    planned = site.run("clean", "--dry-run", "--remote", REMOTE)
    assert planned.returncode == 0, planned.stderr
    assert "its member does not answer" in planned.stderr
    checks = json.loads(site.run("doctor", "--remote", REMOTE, "--json").stdout)["checks"]
    assert next(c for c in checks if c["name"] == "remote-members")["status"] == "warning"
    cluster.revive(lost)


def test_clean_leaves_nothing_on_any_member(site: Site, cluster: Cluster) -> None:
    wait_until(lambda: "offline" not in site.run("doctor", "--remote", REMOTE).stdout)
    done = site.run("clean", "--remote", REMOTE, "--full", "--caches", "--yes")
    assert done.returncode == 0, done.stderr
    with cluster.in_use():
        assert not project_exists(cluster.project)
    assert site.staged() == []
