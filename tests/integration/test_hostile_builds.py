"""What somebody who controls a configure script can do to this machine: nothing.

Each build runs a recipe that is replaced by one of tests/support/hostile.
"""

import hashlib
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_tools import MINIMAL, Site, assert_one_message
from paths import PROGRAMS

pytestmark = pytest.mark.integration

FAULTY = PROGRAMS / "faulty.py"
ATTACKED = (*MINIMAL[:-1], "+nvml")
"""Has another name than the honest package."""


class Machine:
    """What of the cache directory belongs to nobody's build in particular."""

    def __init__(self, site: Site) -> None:
        self.cache = site.cache
        self.before = self.state()

    def state(self) -> dict[str, Any]:
        """Content, mode and owner of each file, without new logs and compiler caches."""
        return {
            str(path.relative_to(self.cache)): (describe(path), path.lstat().st_uid)
            for top in sorted(self.cache.iterdir())
            if top.name not in {"logs", "work", "ccache", "images", "configure"}
            for path in (top, *sorted(top.rglob("*")))
        }

    def assert_unchanged(self) -> None:
        assert self.state() == self.before
        # Only instances read compiler caches.
        links = [path for path in self.cache.rglob("*") if path.is_symlink()]
        assert not [link for link in links if "ccache" not in link.parts]


def describe(path: Path) -> str:
    status = path.lstat()
    content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
    return f"{status.st_mode:o} {content}"


def made_by_attacks(site: Site) -> list[Path]:
    """Published files; an attack that is not refused ends with a package of its toy."""
    names = (site.cache / "builds").rglob("*-with-nvml-*")
    return [path for path in names if "oneapi" not in path.name]


@pytest.fixture
def machine(site: Site) -> Iterator[Machine]:
    machine = Machine(site)
    yield machine
    for path in made_by_attacks(site):
        path.unlink()
    site.run("clean", "--yes")
    machine.assert_unchanged()


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of the user outside the cache directory."""
    path = tmp_path / "victim"
    path.write_text("untouched")
    yield path
    assert path.read_text() == "untouched"


def attack(site: Site, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    hostile = replace(site, program=(sys.executable, str(FAULTY), name)).having(**environment)
    return hostile.run("--verbose", *ATTACKED, "--force")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("links", "share/(slurm-factory.json|licenses/zlib1g/copyright) is a link to .*, outside"),
        ("setuid", "sbin/slurmd is setuid"),
        ("tar", "is outside the directory"),
    ],
)
def test_tree_that_no_honest_build_makes_is_refused_with_one_message(
    site: Site, machine: Machine, victim: Path, name: str, why: str
) -> None:
    packages = site.published()
    done = attack(site, name, VICTIM=str(victim))
    assert_one_message(done, 6, "is refused", why, "build log")
    assert site.published() == packages
    assert not Path("/tmp/evil").exists()


def test_license_text_that_names_a_file_of_the_host_reaches_nothing(
    site: Site, machine: Machine, victim: Path
) -> None:
    done = attack(site, "license", VICTIM=str(victim))
    assert done.returncode == 0, done.stderr
    [software] = (path for path in made_by_attacks(site) if path.name.endswith("software.tar.gz"))
    with tarfile.open(software) as archive:
        assert not [name for name in archive.getnames() if "victim" in name]


def test_process_that_stays_cannot_change_what_is_packed(site: Site, machine: Machine) -> None:
    done = attack(site, "replace")
    assert done.returncode == 0, done.stderr
    [software] = (path for path in made_by_attacks(site) if path.name.endswith("software.tar.gz"))
    with tarfile.open(software) as archive:
        program = archive.extractfile("software/sbin/slurmd")
        assert program is not None
        assert program.read(4) == b"\x7fELF"
    assert site.instances() == []


def test_instance_reaches_neither_the_host_nor_other_builds(site: Site, machine: Machine) -> None:
    done = attack(site, "reach")
    assert done.returncode == 0, done.stderr
    assert re.findall("succeeded: .*", done.stdout + done.stderr) == []
    assert "the attack has ended" in done.stderr
    setuid = [
        path
        for path in site.cache.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]
    # In the compiler cache of these sources, by an id that nobody has, or the user's own.
    assert {path.name for path in setuid} == {"setuid"}
    assert {path.stat().st_uid for path in setuid} != {0}
    saved = [path.read_text() for path in (site.cache / "configure").iterdir()]
    assert saved
    assert not any("evil" in text for text in saved)


def test_honest_build_after_all_attacks_is_the_same_as_before(site: Site) -> None:
    before = {path.name: describe(path) for path in site.manifest.parent.glob("*.tar.gz")}
    assert site.run("clean", "--dry-run").returncode == 0
    site.build(*MINIMAL, "--force")
    after = {path.name: describe(path) for path in site.manifest.parent.glob("*.tar.gz")}
    assert after == before
