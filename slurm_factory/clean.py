"""What builds leave behind, what of it may be removed, and removing it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory.constants import BUILD_PREFIX, DOCTOR_PREFIX
from slurm_factory.exceptions import ConfigurationError, OutputError, SlurmFactoryError
from slurm_factory.instances.lxc import (
    BASE_PREFIX,
    IMAGE_PREFIX,
    LOCAL,
    LOCK_KEY,
    created,
    delete_instance,
    lxc,
    lxc_json,
    project_exists,
)
from slurm_factory.workspace import is_running, is_visible

if TYPE_CHECKING:
    from slurm_factory.config import Settings

LAUNCHING = timedelta(minutes=10)
"""So long an instance without a lock counts as one that is being launched, or looked from."""
SIGN_OF_LIFE = "user.craft_providers.timer"
"""Instance configuration: when the maker of a base lived last, every 3 s (lxd/launcher.py)."""
STATUS = "user.craft_providers.status"
BUILD_NAME = re.compile(rf"{BUILD_PREFIX}(\d{{8}}-\d{{6}}-[0-9a-z-]+-[0-9a-f]{{6}}|benchmark-\d+)")
"""What a build instance is called: a build id follows (workspace.py), or that of a benchmark."""
DOCTOR_NAME = re.compile(rf"{DOCTOR_PREFIX}\d+-[0-9a-f]{{6}}")
UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class CleanRequest:
    """What `clean` shall look at, beside build instances and what they staged."""

    full: bool = False
    builds: bool = False
    caches: bool = False
    older_than: timedelta | None = None


@dataclass(frozen=True)
class Removal:
    """One thing that may go: an LXD object by name, or a path (host) with its size in bytes."""

    kind: str
    name: str
    size: int | None = None


@dataclass(frozen=True)
class CleanPlan:
    """What to remove, in the order in which it must go, and what is kept because it is at work.

    A running build is named as its instance, whether it has one yet, or at all, or not.

    Attributes:
        removals: In this order.
        running: What is at work, and what may be as far as can be seen.
        unseen: Those of them whose locks only others can look at.
        waiting: Options that do nothing as long as something is at work, with its names.
    """

    removals: tuple[Removal, ...]
    running: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    waiting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is kept, and why, in sentences."""
        kept = [f"{name} is kept: {self._why(name)}." for name in self.running]
        waits = [f"{what} waits for {', '.join(names)}." for what, names in self.waiting.items()]
        return (*kept, *waits)

    def _why(self, name: str) -> str:
        if name in self.unseen:
            return "its lock is another user's, so that only that user can see whether it runs"
        return "it is being made" if name.startswith(BASE_PREFIX) else "its build runs"


def parse_age(text: str) -> timedelta:
    """`12h`, `30d` or `4w`.

    Raises:
        ConfigurationError: It is none of these.
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
    """Decide what to remove; looks only.

    Args:
        request: What to look at.
        settings: Of this site.
        now: The time against which ages are measured.

    Raises:
        LXDError: LXD cannot be asked.
    """
    before = now - request.older_than if request.older_than else None
    instances = _instances(settings)
    building = _running_builds(settings)
    running = _at_work(instances, settings, now)
    idle = [e for e in instances if e["name"] not in running and _is_older(created(e), before)]
    builds = [entry for entry in idle if _is_of_a_build(entry) or _is_doctors(entry)]
    removals = [Removal("instance", entry["name"]) for entry in builds]
    removals += _work(settings, before)
    if request.full and not running:
        bases = [entry["name"] for entry in idle if entry["name"].startswith(BASE_PREFIX)]
        removals += [Removal("base", name) for name in bases]
        going = {removal.name for removal in removals}
        stays = any(entry["name"] not in going for entry in instances)
        removals += _project(settings, stays=stays) if before is None else []
        removals += _paths("record", _records(settings), before)
        removals += _paths("lock", _locks_of_bases_that_failed(settings), before)
    if request.builds:
        removals += _paths("build", settings.builds_dir.glob("*/slurm-*"), before)
        logs = settings.logs_dir.glob("*-*")
        finished = (log for log in logs if f"{BUILD_PREFIX}{log.name}" not in building)
        removals += _paths("log", finished, before)
    if request.caches and not building:
        removals += [r for directory in _caches(settings) for r in _cache(directory, before)]
    unseen = tuple(entry["name"] for entry in instances if _is_unseen(entry))
    return CleanPlan(tuple(removals), running, unseen, _waiting(request, running, building))


def remove_all(
    removals: Sequence[Removal], settings: Settings, warn: Callable[[str], None]
) -> tuple[Removal, ...]:
    """Remove what was planned, except what a build has begun to use since then.

    Args:
        removals: What to remove, in this order.
        settings: Of this site.
        warn: Takes what is left, and why.

    Returns:
        What was removed.

    Raises:
        SlurmFactoryError: The first error, after all else has been removed.
    """
    done: list[Removal] = []
    errors: list[SlurmFactoryError] = []
    for removal in removals:
        try:
            if _is_needed(removal, settings, datetime.now(UTC)):
                warn(f"{removal.name} is kept: a build has begun to use it.")
                continue
            remove(removal, settings)
            done.append(removal)
        except SlurmFactoryError as error:
            warn(f"{removal.name} is left: {error.brief}")
            errors.append(error)
    if errors:
        raise errors[0]
    return tuple(done)


def remove(removal: Removal, settings: Settings) -> None:
    """Remove one thing; what is gone already is fine.

    Raises:
        LXDError: LXD refused.
        OutputError: A path could not be removed.
    """
    project = settings.project_name
    if removal.kind in {"instance", "base"}:
        delete_instance(removal.name, project)
    elif removal.kind == "image":
        lxc("image", "delete", f"{LOCAL}{removal.name}", project=project)
    elif removal.kind == "project":
        lxc("project", "delete", f"{LOCAL}{removal.name}", project="default")
    else:
        _remove_path(Path(removal.name))


def _has_project(settings: Settings) -> bool:
    """A machine without lxc, which only builds on itself, has nothing in LXD to remove."""
    return shutil.which("lxc") is not None and project_exists(settings.project_name)


def _instances(settings: Settings) -> list[dict[str, Any]]:
    if not _has_project(settings):
        return []
    return list(lxc_json("list", LOCAL, project=settings.project_name))


def _is_of_a_build(entry: dict[str, Any]) -> bool:
    """Launched by a build; another's instance in the same project may be called `build-farm`."""
    if BUILD_NAME.fullmatch(entry["name"]):
        return True
    return entry["name"].startswith(BUILD_PREFIX) and LOCK_KEY in entry["config"]


def _is_doctors(entry: dict[str, Any]) -> bool:
    return DOCTOR_NAME.fullmatch(entry["name"]) is not None


def _runs(entry: dict[str, Any], settings: Settings, now: datetime) -> bool:
    """Whether the instance is of a build that runs, or is just being made."""
    name = entry["name"]
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
    """Whether somebody makes the base; one whose maker was killed stays as it was for ever."""
    if entry["status"] != "Running" and entry["config"].get(STATUS) == "FINISHED":
        return False
    try:
        sign = datetime.fromisoformat(entry["config"].get(SIGN_OF_LIFE, ""))
    except ValueError:
        sign = created(entry)
    return now - sign < LAUNCHING


def _is_unseen(entry: dict[str, Any]) -> bool:
    marked = entry["config"].get(LOCK_KEY)
    return bool(marked) and _is_of_a_build(entry) and not is_visible(Path(marked))


def _running_builds(settings: Settings) -> tuple[str, ...]:
    """The builds with this cache directory that run, on this machine itself or in an instance."""
    locks = sorted(settings.work_dir.glob("*.lock"))
    return tuple(f"{BUILD_PREFIX}{lock.stem}" for lock in locks if is_running(lock))


def _at_work(
    instances: Iterable[dict[str, Any]], settings: Settings, now: datetime
) -> tuple[str, ...]:
    names = [entry["name"] for entry in instances if _runs(entry, settings, now)]
    return tuple(dict.fromkeys([*names, *_running_builds(settings)]))


def _waiting(
    request: CleanRequest, running: tuple[str, ...], building: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """Bases and images belong to all who share the project, caches to this directory's builds."""
    waiting = {
        "--full": running if request.full else (),
        "--caches": building if request.caches else (),
    }
    return {option: names for option, names in waiting.items() if names}


def _is_needed(removal: Removal, settings: Settings, now: datetime) -> bool:
    """Whether something is at work that needs what was to be removed."""
    path = Path(removal.name)
    if removal.kind == "build":
        return False
    if removal.kind == "log":
        return is_running(settings.work_dir / f"{path.name}.lock")
    if removal.kind == "stage":
        making = path.parent == settings.images_dir and _images_made(settings)
        return making or is_running(Path(f"{path}.lock"))
    if removal.kind == "cache":
        return bool(_running_builds(settings))
    at_work = _at_work(_instances(settings), settings, now)
    return removal.name in at_work if removal.kind == "instance" else bool(at_work)


def _records(settings: Settings) -> Iterator[Path]:
    """Those of bases that nobody makes or copies: a record takes its lock along."""
    records = settings.images_dir.glob("*.json")
    return (record for record in records if not is_running(Path(f"{record}.lock")))


def _locks_of_bases_that_failed(settings: Settings) -> Iterator[Path]:
    """Those that go with no record (base_instances.py, `base_lock`)."""
    locks = settings.images_dir.glob("*.json.lock")
    return (lock for lock in locks if not lock.with_suffix("").exists() and not is_running(lock))


def _images_made(settings: Settings) -> bool:
    """Whether a build makes an image, or makes or copies a base instance right now."""
    return any(map(is_running, settings.images_dir.glob("*.lock")))


def _is_older(time: datetime, before: datetime | None) -> bool:
    return before is None or time < before


def _work(settings: Settings, before: datetime | None) -> list[Removal]:
    """What builds staged that do not run any more, and what a killed one left of an image."""
    directories = [path for path in settings.work_dir.glob("*") if path.is_dir()]
    idle = [path for path in directories if not is_running(Path(f"{path}.lock"))]
    images = [] if _images_made(settings) else settings.images_dir.glob("image-*")
    return _paths("stage", [*idle, *images], before)


def _project(settings: Settings, *, stays: bool) -> list[Removal]:
    """Our images, and the project if nothing else is in it."""
    project = settings.project_name
    if not _has_project(settings):
        return []
    images = lxc_json("image", "list", LOCAL, project=project)
    ours = [image for image in images if _is_ours(image)]
    removals = [Removal("image", image["fingerprint"][:12], image["size"]) for image in ours]
    if not stays and len(ours) == len(images) and project != "default":
        removals.append(Removal("project", project))
    return removals


def _is_ours(image: dict[str, Any]) -> bool:
    """Made here, or fetched by a launch from an image server, which leaves no alias."""
    names = [alias["name"] for alias in image["aliases"]]
    return bool(image.get("cached")) or any(name.startswith(IMAGE_PREFIX) for name in names)


def _caches(settings: Settings) -> tuple[Path, ...]:
    return (
        settings.ccache_dir,
        settings.configure_dir,
        settings.source_cache_dir,
        settings.buildcache_dir,
        settings.spack_checkouts_dir,
        settings.spack_misc_dir,
        settings.spack_locks_dir,
        settings.cache_dir / "binary_index",
    )


def _cache(directory: Path, before: datetime | None) -> list[Removal]:
    if before is None:
        return _paths("cache", [directory] if directory.exists() else [], None)
    return _paths("cache", (path for path in directory.rglob("*") if path.is_file()), before)


def _paths(kind: str, paths: Iterable[Path], before: datetime | None) -> list[Removal]:
    return [
        Removal(kind, str(path), _size(path))
        for path in sorted(paths)
        if _is_older(datetime.fromtimestamp(path.lstat().st_mtime, UTC), before)
    ]


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def _remove_path(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        Path(f"{path}.lock").unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(
            f"{path} could not be removed.",
            details=f"{error.strerror or error}.",
            resolution="Correct its permissions and run the command again.",
        ) from error
