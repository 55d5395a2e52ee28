"""A Spack build without Spack: a stand-in at the boundary of the process, in the host's place."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from job_samples import sample_job
from plan_samples import sample_settings, spack_plan

from slurm_factory.config import Settings
from slurm_factory.instances.this_machine import this_machine
from slurm_factory.output.reporter import make_reporter
from slurm_factory.recipes.recipe import RECIPES
from slurm_factory.recipes.spack.packages import MARK
from slurm_factory.recipes.spack.session import InstancePaths, Spack

RECORDED = Path(__file__).parent / "data" / "spack_output"
STAND_IN = Path(__file__).parent / "fake_spack" / "spack"
SLURM = "slurmaaaaaaaaaaaaaaaaaaaaaaaaaaa"
MUNGE = "mungebbbbbbbbbbbbbbbbbbbbbbbbbbb"
LZ4 = "lz4cccccccccccccccccccccccccccccc"[:32]
CMAKE = "cmakeddddddddddddddddddddddddddd"
OPENSSL = "opensslvvvvvvvvvvvvvvvvvvvvvvvvv"
GLIBC = "glibceeeeeeeeeeeeeeeeeeeeeeeeeee"
RECORD: dict[str, Any] = {
    "base": "debian@12",
    "packages": {"cmake": "3.25.1-1"},
    "externals": {"packages": {"cmake": {"externals": [{"spec": "cmake@3.25", "prefix": "/usr"}]}}},
    "checkouts": {"spack": "git:1", "spack-packages": "git:2"},
}
CONFIG_H = """\
#define HAVE_READLINE 1
"""


def recorded(name: str) -> str:
    return (RECORDED / name).read_text("utf-8")


def description(
    digest: str, name: str, version: str = "1.0", *sources: dict[str, Any], **about: Any
) -> str:
    """A line of spack-packages.py."""
    facts = {"hash": digest, "name": name, "version": version, "sources": sources}
    return MARK + json.dumps({"licenses": [], "homepage": "", **facts, **about})


def need(digest: str, *kinds: str) -> dict[str, Any]:
    return {"name": "-", "hash": digest, "parameters": {"deptypes": [*kinds], "virtuals": []}}


def row(name: str, version: str, *needs: dict[str, Any], external: str = "") -> dict[str, Any]:
    document: dict[str, Any] = {"name": name, "version": version, "dependencies": [*needs]}
    return document | ({"external": {"path": external, "module": None}} if external else {})


LOCK: dict[str, Any] = {
    "_meta": {"file-type": "spack-lockfile", "lockfile-version": 6},
    "roots": [{"hash": SLURM, "spec": "slurm@=24-11-5-1 +readline"}],
    "concrete_specs": {
        SLURM: row(
            "slurm",
            "24-11-5-1",
            need(CMAKE, "build"),
            need(MUNGE, "build", "link"),
            need(LZ4, "build", "link"),
            need(GLIBC, "link"),
        ),
        MUNGE: row("munge", "0.5.18", need(GLIBC, "link")),
        LZ4: row("lz4", "1.10.0", need(CMAKE, "run")),
        CMAKE: row("cmake", "3.25.1", external="/usr"),
        GLIBC: row("glibc", "2.36", external="/usr"),
    },
}


@dataclass(frozen=True)
class StandIn:
    """The stand-in, its prepared answers, and its build."""

    folder: Path
    spack: Spack
    screen: StringIO

    def answers(self, command: str, text: str, status: int = 0) -> None:
        """Say `text` and end with `status`; `install-2` is the second call of `install`."""
        folder = self.folder / "answers"
        folder.mkdir(exist_ok=True)
        (folder / f"{command}.txt").write_text(text)
        (folder / f"{command}.rc").write_text(str(status))

    @property
    def calls(self) -> list[str]:
        """The commands so far, without the project."""
        path = self.folder / "calls.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split(maxsplit=2)[2] for line in lines]

    def environment(self, command: str) -> dict[str, str]:
        """Of the last call of a command."""
        lines = (self.folder / f"environment-{command}.txt").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def prefix(self, name: str, files: dict[str, str]) -> Path:
        """Let an install make a prefix with these files."""
        prefix = self.folder / "prefixes" / name
        for file, text in files.items():
            path = prefix / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return prefix


@contextmanager
def stand_in(tmp_path: Path, lock: dict[str, Any] | None = None) -> Iterator[StandIn]:
    """A build whose Spack is the stand-in; it concretizes to `lock`."""
    folder = tmp_path / "spack"
    folder.mkdir()
    shutil.copy(STAND_IN, folder / "spack")
    shutil.copy(STAND_IN.with_name("update-index.py"), folder)
    (folder / "spack.lock").write_text(json.dumps(lock or LOCK))
    (folder / "prefixes").mkdir()
    paths = InstancePaths(
        program=PurePosixPath(folder / "spack"),
        python=PurePosixPath("/usr/bin/python3"),
        caches=PurePosixPath(folder / "caches"),
        project=PurePosixPath(folder / "project"),
        packages=PurePosixPath(folder / "packages"),
        index=PurePosixPath(folder / "index"),
        store=PurePosixPath(folder / "store"),
    )
    screen = StringIO()
    with build_on_this_machine(sample_settings(tmp_path / "cache"), paths, screen) as spack:
        yield StandIn(folder, spack, screen)


@contextmanager
def build_on_this_machine(
    settings: Settings, paths: InstancePaths, screen: StringIO, build_dir: Path | None = None
) -> Iterator[Spack]:
    """A build of the Spack recipe whose instance is this machine.

    Args:
        settings: Their cache directory is made if need be.
        paths: Where Spack and the rest is.
        screen: Takes what users see.
        build_dir: Build dir of the instance; below the cache directory by default.
    """
    work = settings.work_dir / "build-1"
    for directory in (settings.cache_dir, settings.ccache_dir, settings.logs_dir):
        directory.mkdir(parents=True, exist_ok=True)
    plan = spack_plan(minimal=True)
    with make_reporter(stream=screen, environment={}) as reporter:
        job = replace(sample_job(plan, settings, reporter), jobs=3)
        machine = this_machine(plan.base, settings, work, RECIPES[plan.deps].mounts(job))
        with machine as place:
            inside = PurePosixPath(build_dir) if build_dir else place.build_dir
            instance = replace(place, record=RECORD, build_dir=inside)
            reporter.log_to(job.workspace.log.parent)
            yield Spack(job, instance, paths)


def database(folder: Path, **prefixes: str) -> str:
    """Spack's own list of what is installed: the prefix of each hash below the store."""
    installs = {digest: {"path": f"{folder}/store/{name}"} for digest, name in prefixes.items()}
    return json.dumps({"database": {"version": "8", "installs": installs}})
