"""A matrix in LXD that is killed, and goes on where it ended."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_runner import leftovers
from fault_tools import TWO_CELLS, Site, copy_cache, own_project, wait_until

from slurm_factory.config import Settings
from slurm_factory.util.process import which

pytestmark = pytest.mark.integration


@pytest.fixture
def site(lxd: Settings, compiled: Path, tmp_path: Path) -> Iterator[Site]:
    cache = copy_cache(compiled, tmp_path / "cache")
    shutil.rmtree(cache / "builds")
    with own_project(lxd) as project:
        yield Site(cache, project)


def manifests(site: Site) -> list[Path]:
    return sorted((site.cache / "builds").glob("*/*-manifest.json"))


def compiling(site: Site) -> bool:
    events = "".join(path.read_text() for path in site.cache.glob("logs/*-matrix-*/*.events.jsonl"))
    return events.count('"step-start", "name": "Compile"') == 2


@pytest.mark.skipif(which("setpriv") is None, reason="setpriv(1) is missing")
def test_killed_matrix_leaves_nothing_and_goes_on_where_it_ended(
    site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "matrix.toml"
    file.write_text(TWO_CELLS)
    command = ("matrix", str(file), "--parallel", "2", "--json")
    with subprocess.Popen(
        [*site.program, *command],
        env=site.variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as parent:
        # The first one has ended: of what both have staged, a directory and a lock are left.
        wait_until(
            lambda: compiling(site) and len(manifests(site)) == 1 and len(site.staged()) == 2
        )
        assert len(site.instances()) == 1
        parent.kill()
    # The kernel has told the build that its parent is gone, and it cleans up.
    wait_until(lambda: site.instances() == [] and site.staged() == [])
    [finished] = manifests(site)
    made = finished.stat().st_mtime_ns

    done = site.run(*command)
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert sorted(cell["state"] for cell in cells) == ["built", "up-to-date"]
    assert finished.stat().st_mtime_ns == made
    assert len(manifests(site)) == 2
    assert leftovers(site) == []
