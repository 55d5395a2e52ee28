"""Find and remove what builds leave behind."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory.cache_dir import MARK, require_ours
from slurm_factory.constants import BUILD_PREFIX, DOCTOR_PREFIX
from slurm_factory.exceptions import ConfigurationError, SlurmFactoryError
from slurm_factory.instances.lxc import (
    BASE_PREFIX,
    IMAGE_PREFIX,
    LOCAL,
    LOCK_KEY,
    created,
    delete_instance,
    is_finished,
    is_out_of_reach,
    list_instances,
    lxc,
    lxc_json,
    project_exists,
)
from slurm_factory.instances.orphans import BUILD_NAME, LAUNCHING
from slurm_factory.package.file_names import MANIFEST_END, PACKAGE_END
from slurm_factory.package.publish import COMPLETE, find_artifacts, locked
from slurm_factory.util.documents import read_text
from slurm_factory.util.files import file_errors
from slurm_factory.util.hints import nearest, quoted
from slurm_factory.util.locks import is_running, is_visible, take_if_free
from slurm_factory.util.process import which
from slurm_factory.workspace import BUILD_ID

if TYPE_CHECKING:
    from slurm_factory.config import Settings

SIGN_OF_LIFE = "user.craft_providers.timer"
"""Instance configuration: last sign of life of the maker of a base, every 3 s (lxd/launcher.py)."""
DOCTOR_NAME = re.compile(rf"{DOCTOR_PREFIX}\d+-[0-9a-f]{{6}}")
BUILD_LOCK = re.compile(rf"{BUILD_ID.pattern}\.lock")
RECORD = re.compile(r"(?!.*\.lock$)[a-z0-9.-]+-[0-9a-f]{12}\.json(\.[A-Za-z0-9.-]+)?")
"""Record of a base (plan/base_setup.py, `record_path`)."""
RECORD_LOCK = re.compile(r"[a-z0-9.-]+-[0-9a-f]{12}\.json(\.[A-Za-z0-9.-]+)?\.lock")
IMAGE = re.compile(r"image-[a-z0-9_]{8}")
"""Directory in which an image is made (instances/images.py)."""
VERSION = re.compile(r"[0-9][0-9A-Za-z._+~-]*")
PUBLISHED = re.compile(rf"slurm-.+{PACKAGE_END.pattern}|\.slurm-.+\.complete")
"""Files of packages (package/file_names.py), and directories of publish.py."""
SHARED = frozenset({"base", "image", "project", "record", "lock", "volume"})
"""Kinds of objects that all builds in the LXD project share."""
WITH_LOCK = frozenset({"stage", "record"})
UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class CleanRequest:
    """What `clean` removes beside build instances and staged files.

    Attributes:
        full: Bases, images and the project.
        builds: Finished builds and logs.
        caches: Caches.
        older_than: Only what is older.
        packages: Finished builds by name, and nothing else.
        keep: How many finished builds of each kind stay; only the others are removed.
    """

    full: bool = False
    builds: bool = False
    caches: bool = False
    older_than: timedelta | None = None
    packages: tuple[str, ...] = ()
    keep: int | None = None


@dataclass(frozen=True)
class Removal:
    """One object to remove: an LXD object by name, or a path (host) with its size in bytes."""

    kind: str
    name: str
    size: int | None = None


@dataclass(frozen=True)
class CleanPlan:
    """What to remove, in order, and what stays because it is in use.

    A running build is listed under the name that its instance has or would have.

    Attributes:
        removals: In the order of removal.
        running: Objects in use, and those whose state is unknown.
        unseen: Those whose lock files belong to other users.
        away: Those on members of a cluster that do not answer.
        waiting: Options that wait for running builds, with the names of these.
        unusable: Finished builds that nobody can use, which do not count as kept.
    """

    removals: tuple[Removal, ...]
    running: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    waiting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()
    away: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say what stays, and why."""
        kept = [f"{name} is kept: {self._why(name)}." for name in self.running]
        waits = [f"{what} waits for {', '.join(names)}." for what, names in self.waiting.items()]
        stays = [
            f"{name} cannot be used and does not count: `slurm-factory list` says why."
            for name in self.unusable
        ]
        gone = [
            f"{name} is kept: its member does not answer. Run the command again when it does."
            for name in self.away
        ]
        return (*kept, *waits, *stays, *gone)

    def _why(self, name: str) -> str:
        if name in self.unseen:
            return "its lock file belongs to another user, so its state is unknown"
        return "it is being made" if name.startswith(BASE_PREFIX) else "its build runs"


@dataclass(frozen=True)
class _Seen:
    """The state of builds and instances.

    Attributes:
        project: LXD has the project.
        instances: Entries of `lxc list`.
        building: Instance names of running builds with this cache directory.
        running: These, and everything else in use in the project.
    """

    project: bool
    instances: tuple[dict[str, Any], ...]
    building: tuple[str, ...]
    running: tuple[str, ...]


def parse_age(text: str) -> timedelta:
    """`12h`, `30d` or `4w`.

    Raises:
        ConfigurationError: It is not an age.
    """
    match = re.fullmatch(r"([0-9]{1,5})([hdw])", text.strip())
    if match is None:
        raise ConfigurationError(
            f"--older-than: {text!r} is not an age.",
            details="An age is a number and h, d or w.",
            resolution="Write --older-than 30d, for example.",
        )
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def plan_clean(request: CleanRequest, settings: Settings, now: datetime) -> CleanPlan:
    """Decide what to remove, without changing anything.

    Args:
        request: What to remove.
        settings: Settings of this site.
        now: The time against which ages are measured.

    Raises:
        ConfigurationError: There is no such package, or options contradict each other.
        LXDError: LXD does not answer.
        OutputError: The directory is not a cache directory.
    """
    _require_one_purpose(request)
    _require_files_here(request, settings)
    if settings.cache_dir.exists():
        require_ours(settings)
    before = now - request.older_than if request.older_than else None
    if request.packages:
        return CleanPlan(tuple(_named_packages(request.packages, settings, before)), ())
    if request.keep is not None:
        return _plan_to_keep(request.keep, settings, before)
    seen = _look(settings, now)
    away = tuple(entry["name"] for entry in seen.instances if is_out_of_reach(entry))
    idle = [
        entry
        for entry in seen.instances
        if entry["name"] not in (*seen.running, *away) and _is_older(created(entry), before)
    ]
    builds = [entry for entry in idle if _is_of_a_build(entry) or _is_doctors(entry)]
    removals = [Removal("instance", entry["name"]) for entry in builds]
    removals += _staged(settings, seen, away, before)
    if not seen.running and (request.caches or request.full):
        volumes = _volumes(settings, seen)
        removals += volumes if request.caches else []
        if request.full:
            left = () if request.caches else volumes
            removals += _shared(settings, seen, idle, (removals, left), before)
    if request.builds:
        removals += _packages(settings, before)
        logs = _named(settings.logs_dir, BUILD_ID)
        finished = (log for log in logs if f"{BUILD_PREFIX}{log.name}" not in seen.building)
        removals += _paths("log", finished, before)
    if request.caches and not seen.building and settings.remote is None:
        removals += [r for directory in settings.cache_dirs for r in _cache(directory, before)]
    unseen = tuple(entry["name"] for entry in seen.instances if _is_unseen(entry))
    waiting = _waiting(request, seen)
    return CleanPlan(tuple(removals), seen.running, unseen, waiting, away=away)


def _shared(
    settings: Settings,
    seen: _Seen,
    idle: Sequence[Mapping[str, Any]],
    others: tuple[Sequence[Removal], Sequence[Removal]],
    before: datetime | None,
) -> list[Removal]:
    """What builds share: bases, images, the project, and the records of bases.

    Args:
        settings: Settings of this site.
        seen: The state of builds and instances.
        idle: The instances that nothing uses.
        others: What else goes, and what else stays.
        before: Only what is older.
    """
    bases = [entry["name"] for entry in idle if entry["name"].startswith(BASE_PREFIX)]
    removals = [Removal("base", name) for name in bases]
    going = {removal.name for removal in (*others[0], *removals)}
    stays = bool(others[1]) or any(entry["name"] not in going for entry in seen.instances)
    # All members take part in the removal of an image.
    if before is None and not any(map(is_out_of_reach, seen.instances)):
        removals += _project(settings, seen, stays=stays)
    removals += _paths("record", _records(settings), before)
    return [*removals, *_paths("lock", _locks_of_bases_that_failed(settings), before)]


def _volumes(settings: Settings, seen: _Seen) -> list[Removal]:
    """The compiler caches on all members of a remote."""
    if settings.remote is None or not seen.project:
        return []
    from slurm_factory.instances.delivery import ccache_volumes  # noqa: PLC0415  # rarely needed

    volumes = ccache_volumes(settings.project_name)
    return [Removal("volume", str(volume)) for volume in volumes if not volume.used]


def remove_all(
    removals: Sequence[Removal],
    settings: Settings,
    warn: Callable[[str], None],
    planned: datetime | None = None,
) -> tuple[Removal, ...]:
    """Remove the planned objects, except those that a build has begun to use since.

    Objects that builds share are removed under the lock of the cache directory, which every build
    holds; objects of one build under the lock of that build.

    Args:
        removals: What to remove, in this order.
        settings: Settings of this site.
        warn: Called with each object that was not removed, and why.
        planned: Time of the plan; files published later stay.

    Returns:
        What was removed.

    Raises:
        SlurmFactoryError: The first error, after everything else was removed.
    """
    done: list[Removal] = []
    errors: list[SlurmFactoryError] = []
    with take_if_free(settings.cache_dir / MARK) as alone:
        needed = _needed(removals, settings, alone=alone)
        for removal in removals:
            with take_if_free(_lock_of(removal, settings)) as idle, _no_publisher(removal):
                if removal in needed or not idle or _is_newer(removal, planned):
                    warn(f"{removal.name} is kept: a build has begun to use it.")
                    continue
                try:
                    remove(removal, settings)
                except SlurmFactoryError as error:
                    warn(f"{removal.name} was not removed: {error.brief}")
                    errors.append(error)
                else:
                    done.append(removal)
    if errors:
        raise errors[0]
    return tuple(done)


def _no_publisher(removal: Removal) -> AbstractContextManager[None]:
    """Keep a package from being published between the look at its age and its removal."""
    directory = Path(removal.name).parent
    if removal.kind == "build" and directory.is_dir():
        return locked(directory)
    return nullcontext()


def remove(removal: Removal, settings: Settings) -> None:
    """Remove one object; it may be gone already.

    Raises:
        LXDError: LXD refused to remove it.
        OutputError: A path could not be removed.
    """
    project = settings.project_name
    if removal.kind in {"instance", "base"}:
        delete_instance(removal.name, project)
    elif removal.kind == "image":
        lxc("image", "delete", f"{LOCAL}{removal.name}", project=project)
    elif removal.kind == "volume":
        from slurm_factory.instances.delivery import delete_volume  # noqa: PLC0415

        delete_volume(removal.name, project)
    elif removal.kind == "project":
        lxc("project", "delete", f"{LOCAL}{removal.name}", project="default")
    else:
        _remove_path(Path(removal.name), settings.cache_dir, lock=removal.kind in WITH_LOCK)


def _look(settings: Settings, now: datetime) -> _Seen:
    """Query LXD, and check the locks of the builds with this cache directory.

    A machine without lxc, which only builds on itself, has nothing in LXD.
    """
    project = settings.project_name
    there = which("lxc") is not None and project_exists(project)
    instances = list_instances(project) if there else ()
    locks = sorted(_named(settings.work_dir, BUILD_LOCK))
    building = tuple(f"{BUILD_PREFIX}{lock.stem}" for lock in locks if is_running(lock))
    running = [entry["name"] for entry in instances if _runs(entry, settings, now)]
    return _Seen(there, instances, building, tuple(dict.fromkeys([*running, *building])))


def _needed(removals: Sequence[Removal], settings: Settings, *, alone: bool) -> set[Removal]:
    """The removals of shared things that a build may need by now.

    Args:
        removals: What to remove.
        settings: Settings of this site.
        alone: Whether no build with this cache directory runs.
    """
    caches = {r for r in removals if r.kind == "cache" or _is_of_an_image(r, settings)}
    shared = {r for r in removals if r.kind in SHARED}
    if not alone:
        return caches | shared
    # Users with other cache directories may use the same project.
    return shared if shared and _look(settings, datetime.now(UTC)).running else set()


def _lock_of(removal: Removal, settings: Settings) -> Path:
    """Lock of the build that an object belongs to, or of the base of a record."""
    if removal.kind == "record":
        return Path(f"{removal.name}.lock")
    if removal.kind == "lock":
        return Path(removal.name)
    build = Path(removal.name).name.removeprefix(BUILD_PREFIX).removesuffix(".lock")
    return settings.work_dir / f"{build}.lock"


def _is_newer(removal: Removal, planned: datetime | None) -> bool:
    """Whether a file was published after the removal was planned."""
    if removal.kind != "build" or planned is None:
        return False
    try:
        return Path(removal.name).lstat().st_ctime > planned.timestamp()
    except OSError:
        return False


def _is_of_an_image(removal: Removal, settings: Settings) -> bool:
    return removal.kind == "stage" and Path(removal.name).parent == settings.images_dir


def _is_of_a_build(entry: dict[str, Any]) -> bool:
    """Whether a build launched it; other instances in the project may have names like
    `build-farm`."""
    if BUILD_NAME.fullmatch(entry["name"]):
        return True
    return entry["name"].startswith(BUILD_PREFIX) and LOCK_KEY in entry["config"]


def _is_doctors(entry: dict[str, Any]) -> bool:
    return DOCTOR_NAME.fullmatch(entry["name"]) is not None


def _runs(entry: dict[str, Any], settings: Settings, now: datetime) -> bool:
    """Whether the instance belongs to a running build, or is being made."""
    name = entry["name"]
    if is_out_of_reach(entry):
        return False
    if name.startswith(BASE_PREFIX):
        return _is_being_made(entry, now)
    if _is_doctors(entry):
        return now - created(entry) < LAUNCHING
    if not _is_of_a_build(entry):
        return False
    marked = entry["config"].get(LOCK_KEY)
    lock = Path(marked or settings.work_dir / f"{name.removeprefix(BUILD_PREFIX)}.lock")
    launching = not marked and not lock.exists() and now - created(entry) < LAUNCHING
    return launching or is_running(lock)


def _is_being_made(entry: dict[str, Any], now: datetime) -> bool:
    """Whether a build is making the base; if that build was killed, the base stays as it is."""
    if is_finished(entry):
        return False
    try:
        sign = datetime.fromisoformat(entry["config"].get(SIGN_OF_LIFE, ""))
    except ValueError:
        sign = created(entry)
    return now - sign < LAUNCHING


def _is_unseen(entry: dict[str, Any]) -> bool:
    marked = entry["config"].get(LOCK_KEY)
    return bool(marked) and _is_of_a_build(entry) and not is_visible(Path(marked))


def _waiting(request: CleanRequest, seen: _Seen) -> dict[str, tuple[str, ...]]:
    """All users of the project share bases and images; caches belong to the builds of this
    directory."""
    waiting = {
        "--full": seen.running if request.full else (),
        "--caches": seen.building if request.caches else (),
    }
    return {option: names for option, names in waiting.items() if names}


def _records(settings: Settings) -> Iterator[Path]:
    """Records of bases that no build makes or copies; each goes with its lock.

    Those of members of remotes have their names at the end.
    """
    records = [
        record
        for record in _named(settings.images_dir, RECORD)
        if (record.suffix == ".json") is (settings.remote is None)
    ]
    return (record for record in records if not is_running(Path(f"{record}.lock")))


def _locks_of_bases_that_failed(settings: Settings) -> Iterator[Path]:
    """Lock files without a record (instances/base.py, `base_lock`)."""
    locks = _named(settings.images_dir, RECORD_LOCK)
    return (lock for lock in locks if not lock.with_suffix("").exists() and not is_running(lock))


def _published(settings: Settings) -> list[Path]:
    """Files of packages, and half-published files of killed builds."""
    versions = _named(settings.builds_dir, VERSION)
    return [path for version in versions for path in _named(version, PUBLISHED)]


def _packages(
    settings: Settings, before: datetime | None, names: Collection[str] | None = None
) -> list[Removal]:
    """Files of packages, each as old as the manifest of its package: none is left in part.

    Args:
        settings: Settings of this site.
        before: Only packages older than this.
        names: Only these, as paths without endings; None: all.
    """
    removals = []
    for stem, files in _by_stem(settings).items():
        if names is not None and stem not in names:
            continue
        manifests = [file for file in files if file.name.endswith(MANIFEST_END)]
        dates = [date for file in manifests or files if (date := _changed(file))]
        if dates and _is_older(max(dates), before):
            removals += _paths("build", files, None)
    return sorted(removals, key=lambda removal: removal.name)


def _by_stem(settings: Settings) -> dict[str, list[Path]]:
    """The files of each package, by its path without endings."""
    packages: dict[str, list[Path]] = {}
    for path in _published(settings):
        stem = path.with_name(PACKAGE_END.sub("", path.name))
        packages.setdefault(str(stem), []).append(path)
    return packages


def _named_packages(
    names: Sequence[str], settings: Settings, before: datetime | None
) -> list[Removal]:
    """Files of the packages that somebody names.

    Args:
        names: As `list` prints them, with or without the directory, or paths of their files.
        settings: Settings of this site.
        before: Only packages older than this.

    Raises:
        ConfigurationError: There is no such package.
    """
    known = [Path(stem) for stem in _by_stem(settings)]
    chosen: set[Path] = set()
    for name in names:
        asked = Path(PACKAGE_END.sub("", name))
        found = {path for path in known if path.name == asked.name}
        if "/" in name:
            found = {path for path in found if path.parent.resolve() == asked.parent.resolve()}
        if not found:
            near = nearest(asked.name, [path.name for path in known])
            raise ConfigurationError(
                f"There is no finished build {quoted(name)} in {settings.builds_dir}.",
                details=f"Did you mean {near}?" if near else "There are none of a similar name.",
                resolution="`slurm-factory list` names the finished builds.",
            )
        # And what a killed build has published of it in part.
        chosen |= found | {path.with_name(f".{path.name}{COMPLETE}") for path in found}
    return _packages(settings, before, {str(path) for path in chosen})


def _plan_to_keep(keep: int, settings: Settings, before: datetime | None) -> CleanPlan:
    """Remove all but the newest usable packages of each series and kind."""
    kinds: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
    unusable = []
    for artifact in find_artifacts(settings.builds_dir):
        path = str(artifact.path).removesuffix(MANIFEST_END)
        if artifact.manifest is None or artifact.problem:
            unusable.append(path)
        else:
            made = (artifact.manifest.created, path)
            kinds.setdefault(artifact.manifest.identity.kind, []).append(made)
    older = {path for made in kinds.values() for _, path in sorted(made, reverse=True)[keep:]}
    return CleanPlan(tuple(_packages(settings, before, older)), (), unusable=tuple(unusable))


def _require_one_purpose(request: CleanRequest) -> None:
    """Named packages, or what --keep leaves, are all that is removed."""
    if not request.packages and request.keep is None:
        return
    others = {"--full": request.full, "--builds": request.builds, "--caches": request.caches}
    if request.packages:
        others["--keep"] = request.keep is not None
    surplus = [option for option, given in others.items() if given]
    if surplus:
        what = "PACKAGE" if request.packages else "--keep"
        raise ConfigurationError(
            f"clean with {what} removes finished builds only.",
            details=f"{', '.join(surplus)} would remove more.",
            resolution=f"Omit {what}, or {' and '.join(surplus)}.",
        )


def _require_files_here(request: CleanRequest, settings: Settings) -> None:
    """Finished builds are on this machine, wherever they were made."""
    files = {
        "PACKAGE": bool(request.packages),
        "--keep": request.keep is not None,
        "--builds": request.builds,
    }
    given = [option for option, chosen in files.items() if chosen]
    if settings.remote and given:
        raise ConfigurationError(
            f"clean --remote removes what is on {settings.remote}, not {' and '.join(given)}.",
            details="Finished builds are on this machine.",
            resolution="Omit --remote, or set SLURM_FACTORY_REMOTE to nothing.",
        )


def _changed(path: Path) -> datetime | None:
    """When a file was changed; None where it has gone."""
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _is_older(time: datetime, before: datetime | None) -> bool:
    return before is None or time < before


def _staged(
    settings: Settings, seen: _Seen, away: Collection[str], before: datetime | None
) -> list[Removal]:
    """Staged files of ended builds, and unfinished images of killed ones.

    What a build with an instance out of reach has staged is a note about that instance.

    A directory is removed with its lock; a killed removal may leave a lock alone.
    """
    locks = _named(settings.work_dir, BUILD_LOCK)
    used = {*seen.building, *away}
    alone = [
        lock
        for lock in locks
        if f"{BUILD_PREFIX}{lock.stem}" not in used
        and not lock.with_suffix("").exists()
        and not is_running(lock)
        and _is_of_place(lock.with_suffix(""), settings)
    ]
    works = _named(settings.work_dir, BUILD_ID)
    idle = [
        path
        for path in works
        if f"{BUILD_PREFIX}{path.name}" not in used and _is_of_place(path, settings)
    ]
    images = [] if seen.building else _named(settings.images_dir, IMAGE)
    return _paths("stage", [*idle, *alone, *images], before)


def _is_of_place(work: Path, settings: Settings) -> bool:
    """Whether a staged directory belongs to a build of this LXD, as its lock says; a build that
    has removed its lock needs no instance any more."""
    lock = Path(f"{work}.lock")
    try:
        return lock.is_symlink() or read_text(lock) in {"", settings.lxd_place}
    except (OSError, ValueError):
        return True


def _project(settings: Settings, seen: _Seen, *, stays: bool) -> list[Removal]:
    """slurm-factory's images, and the project if it contains nothing else."""
    project = settings.project_name
    if not seen.project:
        return []
    images = lxc_json("image", "list", LOCAL, project=project)
    ours = [image for image in images if _is_ours(image)]
    removals = [Removal("image", image["fingerprint"][:12], image["size"]) for image in ours]
    if not stays and len(ours) == len(images) and project != "default":
        removals.append(Removal("project", project))
    return removals


def _is_ours(image: dict[str, Any]) -> bool:
    """Made here, or fetched from an image server by a launch, which sets no alias."""
    names = [alias["name"] for alias in image["aliases"]]
    return bool(image.get("cached")) or any(name.startswith(IMAGE_PREFIX) for name in names)


def _named(directory: Path, names: re.Pattern[str]) -> list[Path]:
    """Entries with such a name in one of our directories; never follows links."""
    if directory.is_symlink():
        return []
    try:
        return [path for path in directory.iterdir() if names.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _cache(directory: Path, before: datetime | None) -> list[Removal]:
    if directory.is_symlink() or not directory.exists():
        return []
    if before is None:
        return _paths("cache", [directory], None)
    return _paths("cache", (path for path in directory.rglob("*") if not path.is_dir()), before)


def _paths(kind: str, paths: Iterable[Path], before: datetime | None) -> list[Removal]:
    removals = []
    for path in sorted(paths):
        with suppress(FileNotFoundError):
            changed = _changed(path)
            if changed and _is_older(changed, before):
                removals.append(Removal(kind, str(path), _size(path)))
    return removals


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def _remove_path(path: Path, cache: Path, *, lock: bool) -> None:
    """Remove a file or directory below the cache directory, and its lock if it has one.

    Follows no links: a link could lead anywhere.
    """
    with (
        file_errors(path, "removed"),
        suppress(FileNotFoundError),
        _opened(path.parent, cache) as directory,
    ):
        _remove_entry(path.name, directory)
        if lock:
            _remove_entry(f"{path.name}.lock", directory)


@contextmanager
def _opened(directory: Path, cache: Path) -> Iterator[int]:
    """Descriptor of a directory below `cache`."""
    descriptor = os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in directory.relative_to(cache).parts:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_entry(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)
