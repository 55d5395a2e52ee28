"""The command line as a user meets it: in a process, on a terminal, with a project of its own."""

import json
import mmap
import os
import platform
import re
import secrets
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from commands import LIMIT_SECONDS, run_to_end
from craft_providers.lxd import LXC
from craft_providers.lxd.project import create_with_default_profile
from filelock import FileLock

from slurm_factory.cache_dir import make_cache_dir
from slurm_factory.config import SOURCE_CACHE, Settings
from slurm_factory.constants import Deps
from slurm_factory.fetch.sources import fetch
from slurm_factory.fetch.upstream import backports_source, catalog_source, slurm_source
from slurm_factory.instances.base import (
    PresentBase,
    base_instance_name,
    base_lock,
    compatibility_tag,
    usable_bases,
)
from slurm_factory.instances.images import candidates
from slurm_factory.instances.lxc import (
    LONG_SECONDS,
    delete_instance,
    instance_names,
    list_instances,
    lxc,
    lxc_json,
)
from slurm_factory.plan.base_setup import BaseSetup
from slurm_factory.plan.bases import find_base, host_release
from slurm_factory.plan.releases import find_release

RELEASE = "24.11.5"
BASE = find_base("same", host_release())
SETUP = BaseSetup(BASE, Deps.SYSTEM, "x86_64")
PLAN = ("--slurm-version", RELEASE, "--deps", "system", "--base", "same")
MINIMAL = ("build", *PLAN, "--minimal", "--additional-variants", "+nvml +rsmi +oneapi")
"""As little as a package may have, and the plugins for GPUs, which need no compilation of their own
then: config.h, which each file reads, is another one with them."""
_CELL = f"""
[[cell]]
slurm-version = "{RELEASE}"
type = "minimal"
base = "same"
deps = "system"
additional-variants = "+nvml +rsmi +oneapi"
"""
TWO_CELLS = f"{_CELL}{_CELL}backports = false\n"
"""A matrix of that package, which the compiler cache has, and of one that compiles everything."""
PROGRAM = (sys.executable, "-m", "slurm_factory")
NOBODY = 65534
READ_ALL = "+dac_read_search"
"""So that another user can run the Python that belongs to the one who runs the tests."""
CTRL_C = b"\x03"
POLL_SECONDS = 0.02
REPOSITORY = Path(__file__).parents[2]
INSIDE = "/srv/cache"
PAGE_BYTES = mmap.PAGESIZE


@dataclass(frozen=True)
class Site:
    """A cache directory, an LXD project, and what else the environment says."""

    cache: Path
    project: str = "slurm-factory"
    environment: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = PROGRAM

    def having(self, **environment: str) -> Self:
        """The same site with additional environment variables."""
        return replace(self, environment={**self.environment, **environment})

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the command."""
        return {
            **os.environ,
            "SLURM_FACTORY_CACHE_DIR": str(self.cache),
            "SLURM_FACTORY_PROJECT_NAME": self.project,
            "TERM": "dumb",
            **self.environment,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return run_to_end([*self.program, *arguments], self.variables)

    def build(self, *arguments: str) -> dict[str, Any]:
        """Run a build that must succeed; returns the document that `--json` prints."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def instances(self) -> list[str]:
        """Build instances of the project."""
        return [name for name in instance_names(self.project) if name.startswith("build-")]

    def bases(self) -> list[str]:
        """Base instances of the project."""
        return [name for name in instance_names(self.project) if name.startswith("base-")]

    def staged(self) -> list[str]:
        """What builds in progress keep in the cache directory."""
        return [path.name for path in (self.cache / "work").glob("*")]

    def published(self) -> list[str]:
        """Every file below builds/."""
        return sorted(path.name for path in (self.cache / "builds").glob("*/*"))

    @property
    def manifest(self) -> Path:
        """The manifest (host) of its one package."""
        [manifest] = (self.cache / "builds" / RELEASE).glob("*-manifest.json")
        return manifest


class Terminal:
    """The command in a session of its own, on a terminal."""

    def __init__(self, site: Site, *arguments: str) -> None:
        self._master, slave = os.openpty()
        self.text = ""
        # setsid(1) makes the terminal the controlling one, so that it sends what Ctrl-C sends;
        # env(1), because tests that run in the background themselves ignore it.
        self.process = subprocess.Popen(
            ["env", "--default-signal", "setsid", "--ctty", *site.program, *arguments],
            env=site.variables,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        os.set_blocking(self._master, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def wait_for(self, text: str, seconds: float = LIMIT_SECONDS) -> None:
        """Wait until the screen has shown `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.text:
            self._read()
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text

    def press_ctrl_c(self) -> None:
        """What the key does: SIGINT for every process of the foreground group."""
        os.write(self._master, CTRL_C)

    def finish(self, seconds: float = LIMIT_SECONDS) -> int:
        """Wait for the end; returns the exit status."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self._read()
            assert time.monotonic() < deadline, self.text
        self._read()
        return self.process.returncode

    def _read(self) -> None:
        select.select([self._master], [], [], POLL_SECONDS)
        # The other end is closed when the process has ended.
        with suppress(BlockingIOError, OSError):
            self.text += os.read(self._master, 1 << 16).decode(errors="replace")


def wait_until(condition: Callable[[], bool], seconds: float = LIMIT_SECONDS) -> None:
    """Wait for a condition on which no command waits."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


def assert_one_message(
    done: subprocess.CompletedProcess[str], exit_code: int, *phrases: str
) -> None:
    """One line what failed, then why and what to do; never a traceback."""
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.stderr
    message = done.stderr[done.stderr.index("Error: ") :]
    explained = [line for line in message.splitlines()[1:] if line.startswith("  ")]
    assert len(explained) >= 2, done.stderr
    for phrase in phrases:
        assert re.search(phrase, message), done.stderr


def make_cache(directory: Path, settings: Settings, ccache: Path | None = None) -> Path:
    """A cache directory that has the sources and, if one is given, this compiler cache."""
    make_cache_dir(settings.model_copy(update={"cache_dir": directory}))
    release = find_release(RELEASE)
    assert release.backports
    backports = backports_source(release, release.backports, settings)
    further = [
        fetch(source, settings.source_cache_dir, mirrors=settings.source_mirrors)
        for source in (catalog_source("nvml"), backports)
    ]
    for source in (source_in(settings.cache_dir), *further):
        target = directory / source.relative_to(settings.cache_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    if ccache:
        share_ccache(ccache, directory / "ccache")
    return directory


def copy_cache(source: Path, target: Path) -> Path:
    """Copy a cache directory of which no build makes use at the moment."""
    shutil.copytree(source, target, symlinks=True, ignore=_leave_out_ccache)
    share_ccache(source / "ccache", target / "ccache")
    return target


def _leave_out_ccache(directory: str, _: list[str]) -> set[str]:
    return {"ccache"} if Path(directory, "ccache").is_dir() else set()


def share_ccache(source: Path, target: Path) -> None:
    """Fill a compiler cache with what another holds; ccache never changes a file in place."""
    shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def source_in(cache: Path) -> Path:
    """The archive of Slurm in a cache directory, which may hold those of other releases too."""
    return cache / SOURCE_CACHE / slurm_source(find_release(RELEASE), ()).stored_as


@contextmanager
def own_project(settings: Settings, *, with_base: bool = True) -> Iterator[str]:
    """An LXD project, with a copy of the base instance that the site has."""
    name = f"test-{secrets.token_hex(4)}"
    create_with_default_profile(project=name, lxc=LXC())
    try:
        if with_base:
            _copy_base(settings, name)
        yield name
    finally:
        remove_project(name)


@contextmanager
def machine_for_builds(site: Site, cache: Path) -> Iterator[Site]:
    """A machine that has all that builds need, as an instance; what runs the command there.

    Args:
        site: Whose base instance is copied.
        cache: Cache directory of builds there (host).
    """
    name = f"machine-{secrets.token_hex(4)}"
    in_project = ("lxc", "--project", site.project)
    settings = {"SLURM_FACTORY_CACHE_DIR": INSIDE, "TERM": "dumb"}
    variables = [f"--env={key}={value}" for key, value in settings.items()]
    inside = (*in_project, "exec", "-T", "--cwd", str(REPOSITORY), name, *variables, "--")
    try:
        lxc("copy", site.bases()[0], name, project=site.project, timeout=LONG_SECONDS)
        id_map = f"uid {os.getuid()} 0\ngid {os.getgid()} 0"
        lxc("config", "set", name, f"raw.idmap={id_map}", project=site.project)
        # The Python that runs the tests, at its own path. The machine's own cannot be mounted.
        for path in {REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)} - {Path("/usr")}:
            _mount(name, site.project, path, path, "readonly=true")
        lxc("start", name, project=site.project)
        _mount(name, site.project, cache, Path(INSIDE))
        machine = Site(cache, site.project, program=(*inside, *PROGRAM))
        if Path(sys.base_prefix) == Path("/usr"):
            run_there(machine, "complete-python.sh")
        yield machine
    finally:
        delete_instance(name, site.project)


def run_there(machine: Site, script: str) -> str:
    """Run a script of destructive/ on a machine; returns what it printed."""
    text = (Path(__file__).parent / "destructive" / script).read_text()
    command = [*machine.program[: -len(PROGRAM)], "bash", "-c", text, script]
    done = run_to_end(command, machine.variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _mount(name: str, project: str, source: Path, target: Path, *options: str) -> None:
    device = f"disk-{secrets.token_hex(4)}"
    places = (f"source={source}", f"path={target}", *options)
    lxc("config", "device", "add", name, device, "disk", *places, project=project)


def remove_project(name: str) -> None:
    """Delete a project and all that is in it."""
    for instance in instance_names(name):
        delete_instance(instance, name)
    for image in lxc_json("image", "list", project=name):
        lxc("image", "delete", image["fingerprint"], project=name)
    lxc("project", "delete", name, project="default")


def copy_image(settings: Settings, project: str, scratch: Path) -> bool:
    """Give a project the image that was made here; returns whether one was."""
    made_here = candidates(BASE, platform.machine())[1].alias
    aliases = lxc_json("image", "alias", "list", project=settings.project_name)
    if made_here not in {entry["name"] for entry in aliases}:
        return False
    exported = ("image", "export", made_here, str(scratch / "image"))
    lxc(*exported, project=settings.project_name, timeout=LONG_SECONDS)
    files = sorted(str(path) for path in scratch.iterdir())
    lxc("image", "import", *files, "--alias", made_here, project=project, timeout=LONG_SECONDS)
    return True


def as_stranger(site: Site) -> Site:
    """The same command, run by a user without access to LXD."""
    prefix = () if os.geteuid() == 0 else ("sudo", "-n", "--preserve-env")
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    capabilities = (f"--inh-caps={READ_ALL}", f"--ambient-caps={READ_ALL}")
    return replace(site, program=(*prefix, *become, *capabilities, *site.program))


def in_memory_mebibytes(directory: Path) -> int:
    """How much of a file system in memory these files take, where each file has whole pages."""
    pages = (-(-f.stat().st_size // PAGE_BYTES) for f in directory.rglob("*") if f.is_file())
    return -(-sum(pages) * PAGE_BYTES >> 20)


def _copy_base(settings: Settings, project: str) -> None:
    """Give a project the base instance that the site has, or gets now."""
    base = present_base(settings)
    copy = base_instance_name(SETUP, base.image, project)
    whither = ("--target-project", project)
    with FileLock(base_lock(SETUP, settings.images_dir)):
        lxc("copy", base.name, copy, *whither, project=settings.project_name, timeout=LONG_SECONDS)
    adopt_base(copy, settings.project_name, project)


def present_base(settings: Settings) -> PresentBase:
    """The base instance that the site has, or gets now."""
    bases = usable_in(settings.project_name)
    if not bases:
        Site(settings.cache_dir, settings.project_name).build(*MINIMAL, "--force")
        bases = usable_in(settings.project_name)
    return bases[0]


def adopt_base(copy: str, old_project: str, project: str) -> None:
    """Let builds in a project use the copy of a base instance of another."""
    # The project is a part of the tag by which a base is known to be compatible and whole.
    old, new = (compatibility_tag(SETUP, name) for name in (old_project, project))
    path = f"{copy}/etc/craft-instance.conf"
    record = lxc("file", "pull", path, "-", project=project)
    lxc("file", "push", "-", path, project=project, stdin=record.replace(old, new))
    full_name = lxc("config", "get", copy, "image.description", project=project).strip()
    lxc("config", "set", copy, f"image.description={full_name.replace(old, new)}", project=project)
    assert usable_in(project), "builds would make another"


def usable_in(project: str) -> list[PresentBase]:
    """The base instances of a project that builds would copy."""
    return usable_bases(SETUP, platform.machine(), project, list_instances(project))
