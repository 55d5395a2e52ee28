"""The faults that builds meet on a farm, and how each is injected."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

from fault_runner import IN_INSTANCE, Case, Ended, Scene, finish, resume
from fault_tools import (
    MINIMAL,
    NOBODY,
    PLAN,
    RELEASE,
    SETUP,
    Site,
    Terminal,
    copy_cache,
    copy_image,
    own_project,
    source_in,
    usable_in,
    wait_until,
)
from file_systems import as_root, fill, small_file_system
from private_lxd import cut_network, mend_network

from slurm_factory.cache_dir import MARK
from slurm_factory.config import load_settings
from slurm_factory.exceptions import LXDError
from slurm_factory.instances.lxc import LONG_SECONDS, lxc
from slurm_factory.plan.base_setup import record_path

OTHER = ("build", *PLAN, "--minimal")
"""Another plan, whose files are compiled with another config.h."""
STEPS = (
    "Launch",
    "Unpack and patch",
    "Configure",
    "Compile",
    "Install and strip",
    "Relocate",
    "Pack",
    "Publish",
)
"""Steps of a build. Collecting libraries reads from the instance, as installing does; the audit
follows relocation on this machine alone, and fetching does nothing with a full cache."""
DONE = frozenset({0})
INTERRUPTED = frozenset({130})
NO_LXD = frozenset({3})
NO_SOURCE = frozenset({4})
NOT_WRITTEN = frozenset({7})
UNREACHABLE = "http://127.0.0.1:9"
ROOM_MEBIBYTES = 1400
"""For a build in a file system of its own, beside its caches: what it asks for, and its files."""
DAMAGE = b"damaged"
DISK = "size=2GiB"
"""Of an instance that is filled: more than its base takes."""


# Signals


def ctrl_c(scene: Scene, step: str) -> Ended:
    """SIGINT for every process of the foreground group."""
    with scene.build_at(step) as terminal:
        terminal.press_ctrl_c()
        return finish(terminal)


def send(scene: Scene, step: str, number: signal.Signals) -> Ended:
    """A signal to the program alone."""
    with scene.build_at(step) as terminal:
        terminal.process.send_signal(number)
        return finish(terminal)


def signals() -> Iterator[Case]:
    for step in STEPS:
        # Publishing holds signals back.
        ends = INTERRUPTED | DONE if step == "Publish" else INTERRUPTED
        yield Case("SIGINT (Ctrl-C)", step, partial(ctrl_c, step=step), ends)
        for number in (signal.SIGTERM, signal.SIGHUP):
            yield Case(number.name, step, partial(send, step=step, number=number), ends)
        kill = partial(send, step=step, number=signal.SIGKILL)
        yield Case("SIGKILL", step, kill, frozenset({-signal.SIGKILL}))


# LXD


def daemon_dies(scene: Scene, step: str, *, comes_back: bool) -> Ended:
    """The daemon is killed; it comes back at once, or after the build has ended."""
    assert scene.lxd is not None
    with scene.build_at(step) as terminal:
        scene.lxd.kill()
        scene.undo.callback(scene.lxd.start)
        if comes_back:
            resume(terminal)
            scene.undo.close()
        return finish(terminal)


def instance_goes(scene: Scene, step: str, command: tuple[str, ...]) -> Ended:
    """Somebody stops or deletes the instance."""
    site = scene.site
    with scene.build_at(step) as terminal:
        [instance] = site.instances()
        # LXD refuses while it makes the instance.
        wait_until(lambda: _is_done(*command, instance, project=site.project))
        return finish(terminal)


def _is_done(*command: str, project: str) -> bool:
    try:
        lxc(*command, project=project)
    except LXDError:
        return False
    return True


def lxd() -> Iterator[Case]:
    for step in ("Launch", *IN_INSTANCE):
        for fault, back in (("LXD is killed", False), ("LXD is killed and restarted", True)):
            yield Case(fault, step, partial(daemon_dies, step=step, comes_back=back), NO_LXD | DONE)
    # There is no instance any more, and LXD is not needed.
    dies = partial(daemon_dies, step="Pack", comes_back=False)
    yield Case("LXD is killed", "Pack", dies, DONE)
    for step in IN_INSTANCE:
        stop = partial(instance_goes, step=step, command=("stop", "--force"))
        yield Case("the instance is stopped", step, stop, NO_LXD)
    for step in ("Launch", *IN_INSTANCE):
        delete = partial(instance_goes, step=step, command=("delete", "--force"))
        yield Case("the instance is deleted", step, delete, NO_LXD)


# The network


@contextmanager
def served(directory: Path, *, stalls: Event | None = None) -> Iterator[str]:
    """The URL of a directory; where it stalls, no file is sent further than to its half."""
    handler = partial(_Handler, directory=str(directory), stalls=stalls)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            if stalls:
                stalls.set()
            server.shutdown()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: object, stalls: Event | None, **named: object) -> None:
        self._stalls = stalls
        super().__init__(*arguments, **named)  # type: ignore[arg-type]

    def copyfile(self, source: object, outputfile: object) -> None:
        data = source.read()  # type: ignore[attr-defined]
        if self._stalls and not self._stalls.is_set():
            outputfile.write(data[: len(data) // 2])  # type: ignore[attr-defined]
            outputfile.flush()  # type: ignore[attr-defined]
            self._stalls.wait()
            return
        outputfile.write(data)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


def offline(site: Site) -> Site:
    """Nothing but this machine can be reached."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), UNREACHABLE)
    upper = {name.upper(): value for name, value in proxies.items()}
    return site.having(
        **proxies, **upper, no_proxy="127.0.0.1", SLURM_FACTORY_DEBIAN_MIRROR=UNREACHABLE
    )


def mirrored(scene: Scene, stalls: Event | None = None) -> Site:
    """A site with a mirror that has the source."""
    source, directory = source_in(scene.site.cache), scene.scratch / "mirror"
    directory.mkdir()
    for name in ("slurm-24-11-5-1.tar.gz", "slurm-wlm_24.11.5.orig.tar.gz"):
        shutil.copy2(source, directory / name)
    url = scene.later.enter_context(served(directory, stalls=stalls))
    return scene.site.having(SLURM_FACTORY_SOURCE_MIRRORS=url, SLURM_FACTORY_DOWNLOAD_TIMEOUT="2")


def download_stalls(scene: Scene) -> Ended:
    """The mirror sends half of the source and then nothing; then it works again."""
    stalls = Event()
    healthy = mirrored(scene, stalls)
    source_in(scene.site.cache).unlink()
    scene.damaged.add("the sources")
    scene.site = offline(healthy)
    ended = scene.run()
    stalls.set()
    scene.site = healthy
    return ended


def base_setup_loses_network(scene: Scene) -> Ended:
    """The bridge goes down while packages are fetched into a new base instance."""
    without_base(scene)
    scene.command = ("--verbose", *scene.command)
    with Terminal(scene.site, *scene.command) as terminal:
        terminal.wait_for("Need to get")
        cut_network()
        scene.undo.callback(mend_network)
        return finish(terminal)


def without_base(scene: Scene) -> None:
    """A project that has an image and no base instance."""
    project = scene.later.enter_context(own_project(load_settings(), with_base=False))
    image = scene.scratch / "image"
    image.mkdir()
    settings = load_settings().model_copy(update={"project_name": scene.site.project})
    copy_image(settings, project, image)
    scene.site = replace(scene.site, project=project)
    scene.moved = True


def network() -> Iterator[Case]:
    yield Case("the network is cut", "a download", download_stalls, NO_SOURCE)
    yield Case("the network is cut", "setup of a base", base_setup_loses_network, NO_LXD)


# Disks


def small_cache(scene: Scene) -> Path:
    """Move the cache to a file system that can be filled; returns where that is mounted."""
    cache = scene.site.cache
    used = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) >> 20
    disk = scene.later.enter_context(
        small_file_system(scene.scratch / "disk", 3 * used + ROOM_MEBIBYTES)
    )
    scene.site = replace(scene.site, cache=copy_cache(cache, disk / "cache"))
    return disk


def cache_fills_up(scene: Scene, step: str) -> Ended:
    """No byte is free on the disk of the cache directory."""
    disk = small_cache(scene)
    with scene.build_at(step) as terminal:
        scene.undo.callback(fill(disk).unlink)
        return finish(terminal)


def cache_is_full(scene: Scene) -> Ended:
    """It was full before the build."""
    scene.undo.callback(fill(small_cache(scene)).unlink)
    return scene.run()


def instance_fills_up(scene: Scene, step: str) -> Ended:
    """Somebody fills the disk of the instance, which has a limit."""
    site = scene.site
    with scene.build_at(step) as terminal:
        [instance] = site.instances()
        lxc("config", "device", "override", instance, "root", DISK, project=site.project)
        whole = ("sh", "-c", "cat /dev/zero > /srv/filling || true")
        lxc("exec", instance, "--", *whole, project=site.project, timeout=LONG_SECONDS)
        return finish(terminal)


def disks() -> Iterator[Case]:
    yield Case("the disk of the cache is full", "before", cache_is_full, NOT_WRITTEN)
    for step in (
        "Launch",
        "Configure",
        "Compile",
        "Install and strip",
        "Relocate",
        "Pack",
        "Publish",
    ):
        fills_up = partial(cache_fills_up, step=step)
        # Nothing has to be written to it while configure runs.
        ends = NOT_WRITTEN | DONE if step in {"Launch", "Configure", "Publish"} else NOT_WRITTEN
        yield Case("the disk of the cache is full", step, fills_up, ends)
    for step in ("Configure", "Compile", "Install and strip"):
        fills_up = partial(instance_fills_up, step=step)
        yield Case("the disk of the instance is full", step, fills_up, frozenset({1}))


# The cache directory


def cache_is_read_only(scene: Scene) -> Ended:
    """Mounted so that not even root may write."""
    cache = str(scene.site.cache)
    as_root("mount", "--bind", cache, cache)
    scene.undo.callback(as_root, "umount", "--lazy", cache)
    as_root("mount", "-o", "remount,bind,ro", cache)
    return scene.run()


def cache_belongs_to_another(scene: Scene) -> Ended:
    cache = scene.site.cache
    as_root("chown", str(NOBODY), str(cache))
    scene.undo.callback(as_root, "chown", str(os.getuid()), str(cache))
    return scene.run()


def cache_is_open_to_others(scene: Scene) -> Ended:
    cache = scene.site.cache
    mode = cache.stat().st_mode
    cache.chmod(0o777)
    scene.undo.callback(cache.chmod, mode)
    return scene.run()


def cache_has_no_mark(scene: Scene) -> Ended:
    mark = scene.site.cache / MARK
    aside = mark.rename(scene.scratch / "mark")
    scene.undo.callback(shutil.move, aside, mark)
    return scene.run()


def cache_directory() -> Iterator[Case]:
    fault = "the cache directory"
    yield Case(fault, "is read-only", cache_is_read_only, NOT_WRITTEN)
    yield Case(fault, "belongs to somebody else", cache_belongs_to_another, NOT_WRITTEN)
    yield Case(fault, "may be written by others", cache_is_open_to_others, NOT_WRITTEN)
    yield Case(fault, "is a directory of something else", cache_has_no_mark, NOT_WRITTEN)


# The clock


def clock_says(scene: Scene, date: str) -> Ended:
    """The clock of the build, not that of LXD. In 2040, its base instance is too old."""
    scene.damaged.add("the base instance")
    site = scene.site
    wrong = ("faketime", "-f", f"@{date} 12:00:00", *site.program)
    scene.site = replace(site, program=wrong)
    ended = scene.run()
    scene.site = site
    return ended


def clock() -> Iterator[Case]:
    for year in ("1999", "2040"):
        yield Case("the clock is wrong", year, partial(clock_says, date=f"{year}-06-01"), DONE)


# Others at the same time


def together(scene: Scene, *others: tuple[str, ...]) -> Ended:
    """The build, and others that begin at the same time."""
    commands = (scene.command, *others)
    with ThreadPoolExecutor() as pool:
        return _both(pool.map(partial(_whole, scene.site), commands))


def _whole(site: Site, command: tuple[str, ...]) -> Ended:
    with Terminal(site, *command) as terminal:
        return finish(terminal)


def _both(ends: Iterator[Ended]) -> Ended:
    """The worst end, and all that was said."""
    found = list(ends)
    worst = max(found, key=lambda ended: ended.code != 0)
    return replace(worst, text="\n".join(ended.text for ended in found))


def same_plan(scene: Scene) -> Ended:
    return together(scene, scene.command)


def two_plans(scene: Scene) -> Ended:
    return together(scene, (*OTHER, "--force"))


def clean_beside(scene: Scene, step: str) -> Ended:
    """`clean` removes all that it may remove while a build runs."""
    with scene.build_at(step) as terminal:
        resume(terminal)
        cleaned = Ended.of(scene.site.run("clean", "--full", "--caches", "--yes"))
        return _both(iter((finish(terminal), cleaned)))


def others() -> Iterator[Case]:
    yield Case("another build at the same time", "of the same plan", same_plan, DONE)
    yield Case("another build at the same time", "of another plan", two_plans, DONE)
    for step in ("Launch", "Compile", "Pack"):
        beside = partial(clean_beside, step=step)
        yield Case("clean --full --caches beside", step, beside, DONE)


# Damage


def rewrite(path: Path, content: bytes = DAMAGE) -> None:
    """Another content in a new file: caches of other sites share the old one."""
    owner = path.stat()
    path.unlink()
    path.write_bytes(content)
    os.chown(path, owner.st_uid, owner.st_gid)


def source_is_damaged(scene: Scene) -> Ended:
    scene.site = mirrored(scene)
    rewrite(source_in(scene.site.cache))
    return scene.run()


def source_is_damaged_offline(scene: Scene) -> Ended:
    healthy = mirrored(scene)
    rewrite(source_in(scene.site.cache))
    scene.damaged.add("the sources")
    scene.site = offline(healthy).having(SLURM_FACTORY_SOURCE_MIRRORS=UNREACHABLE)
    ended = scene.run()
    scene.site = healthy
    return ended


def compiler_cache_is_damaged(scene: Scene) -> Ended:
    """Every tenth of its files: cut, or filled with something else."""
    files = sorted(p for p in (scene.site.cache / "ccache").rglob("*") if p.name[-1] in "RM")
    for number, path in enumerate(files[::10]):
        rewrite(path, path.read_bytes()[:-10] if number % 2 else os.urandom(path.stat().st_size))
    return scene.run()


def configure_results_are_damaged(scene: Scene) -> Ended:
    for path in (scene.site.cache / "configure").iterdir():
        rewrite(path)
    return scene.run()


def record_is_damaged(scene: Scene) -> Ended:
    rewrite(record_path(SETUP, scene.site.cache / "images"))
    return scene.run()


def manifest_is_damaged(scene: Scene) -> Ended:
    scene.command = MINIMAL
    rewrite(_built(scene, "manifest.json"))
    return scene.run()


def package_is_damaged(scene: Scene) -> Ended:
    scene.command = MINIMAL
    tarball = _built(scene, "software.tar.gz")
    rewrite(tarball, tarball.read_bytes()[:-1000])
    return scene.run()


def _built(scene: Scene, ending: str) -> Path:
    """A file of the package that the build makes."""
    [path] = (scene.site.cache / "builds" / RELEASE).glob(f"*oneapi*-{ending}")
    return path


def base_is_damaged(scene: Scene) -> Ended:
    """The record of its setup is no record; the build makes another one."""
    base = usable_in(scene.site.project)[0].name
    path = f"{base}/etc/craft-instance.conf"
    lxc("file", "push", "-", path, project=scene.site.project, stdin="damaged")
    scene.moved = True
    return scene.run()


def damage() -> Iterator[Case]:
    fault = "damaged"
    yield Case(fault, "source", source_is_damaged, DONE)
    yield Case(fault, "source, without network", source_is_damaged_offline, NO_SOURCE)
    yield Case(fault, "compiler cache", compiler_cache_is_damaged, DONE)
    yield Case(fault, "results of configure", configure_results_are_damaged, DONE)
    yield Case(fault, "record of the base", record_is_damaged, DONE)
    yield Case(fault, "manifest", manifest_is_damaged, DONE)
    yield Case(fault, "package", package_is_damaged, DONE)
    yield Case(fault, "base instance", base_is_damaged, DONE)


def all_cases() -> list[Case]:
    """Every case, in the order of the table."""
    groups: tuple[Callable[[], Iterator[Case]], ...]
    groups = (signals, lxd, network, disks, cache_directory, clock, others, damage)
    return [case for group in groups for case in group()]
