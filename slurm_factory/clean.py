"""What builds leave behind, what of it may be removed, and removing it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory.constants import BUILD_PREFIX, DOCTOR_PREFIX
from slurm_factory.exceptions import ConfigurationError, OutputError
from slurm_factory.instances.lxc import (
    BASE_PREFIX,
    IMAGE_PREFIX,
    LOCAL,
    LOCK_KEY,
    delete_instance,
    lxc,
    lxc_json,
    project_exists,
)
from slurm_factory.workspace import is_running

if TYPE_CHECKING:
    from slurm_factory.config import Settings

LAUNCHING = timedelta(minutes=10)
"""So long an instance without a lock counts as one that is being launched, or looked from."""
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
    """

    removals: tuple[Removal, ...]
    running: tuple[str, ...]


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
    building = [f"{BUILD_PREFIX}{build_id}" for build_id in _running_builds(settings)]
    at_work = [entry["name"] for entry in instances if _runs(entry, settings, now)]
    running = tuple(dict.fromkeys([*at_work, *building]))
    idle = [e for e in instances if e["name"] not in running and _is_older(_created(e), before)]
    builds = [entry for entry in idle if entry["name"].startswith((BUILD_PREFIX, DOCTOR_PREFIX))]
    removals = [Removal("instance", entry["name"]) for entry in builds]
    removals += _work(settings, before)
    if request.full and not running:
        bases = [entry["name"] for entry in idle if entry["name"].startswith(BASE_PREFIX)]
        removals += [Removal("base", name) for name in bases]
        going = {removal.name for removal in removals}
        stays = any(entry["name"] not in going for entry in instances)
        removals += _project(settings, stays=stays) if before is None else []
    if request.builds:
        removals += _paths("build", settings.builds_dir.glob("*/slurm-*"), before)
        logs = settings.logs_dir.glob("*-*")
        finished = (log for log in logs if f"{BUILD_PREFIX}{log.name}" not in building)
        removals += _paths("log", finished, before)
    if request.caches and not running:
        removals += [r for directory in _caches(settings) for r in _cache(directory, before)]
    return CleanPlan(tuple(removals), running)


def still_removable(plan: CleanPlan, request: CleanRequest, settings: Settings) -> CleanPlan:
    """What of an earlier plan may be removed now."""
    now = plan_clean(request, settings, datetime.now(UTC))
    return CleanPlan(tuple(r for r in plan.removals if r in now.removals), now.running)


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


def _created(entry: dict[str, Any]) -> datetime:
    # Go writes nanoseconds, of which Python reads microseconds only.
    text = re.sub(r"(\.\d{6})\d*", r"\1", entry["created_at"])
    return datetime.fromisoformat(text)


def _runs(entry: dict[str, Any], settings: Settings, now: datetime) -> bool:
    """Whether the instance is of a build that runs, or of one that is just being launched."""
    name = entry["name"]
    if name.startswith(DOCTOR_PREFIX):
        return now - _created(entry) < LAUNCHING
    if not name.startswith(BUILD_PREFIX):
        return False
    marked = entry["config"].get(LOCK_KEY)
    lock = Path(marked or settings.work_dir / f"{name.removeprefix(BUILD_PREFIX)}.lock")
    launching = not marked and not lock.exists() and now - _created(entry) < LAUNCHING
    return launching or is_running(lock)


def _running_builds(settings: Settings) -> list[str]:
    """Ids of the builds that run, on this machine itself or in an instance."""
    return [lock.stem for lock in sorted(settings.work_dir.glob("*.lock")) if is_running(lock)]


def _is_older(time: datetime, before: datetime | None) -> bool:
    return before is None or time < before


def _work(settings: Settings, before: datetime | None) -> list[Removal]:
    """What builds staged that do not run any more, and what a killed one left of an image."""
    directories = [path for path in settings.work_dir.glob("*") if path.is_dir()]
    idle = [path for path in directories if not is_running(Path(f"{path}.lock"))]
    making = any(map(is_running, settings.images_dir.glob("*.lock")))
    images = [] if making else settings.images_dir.glob("image-*")
    return _paths("stage", [*idle, *images], before)


def _project(settings: Settings, *, stays: bool) -> list[Removal]:
    """Our images, the records of base instances, and the project if nothing else is in it."""
    project = settings.project_name
    records = _paths("record", settings.images_dir.glob("*.json"), None)
    if not _has_project(settings):
        return records
    images = lxc_json("image", "list", LOCAL, project=project)
    ours = [image for image in images if _is_ours(image)]
    removals = [Removal("image", image["fingerprint"][:12], image["size"]) for image in ours]
    if not stays and len(ours) == len(images) and project != "default":
        removals.append(Removal("project", project))
    return [*removals, *records]


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
