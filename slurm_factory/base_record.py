"""What a base instance gets, and the record of what it then contained.

Light to import: whether a finished build is up to date is asked before anything else.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory import resources
from slurm_factory.bases import PackageManager
from slurm_factory.features import packages_for

if TYPE_CHECKING:
    from slurm_factory.bases import Base

# Compilers and tools of every build; what features need is in the feature table.
TOOLS: dict[PackageManager, tuple[str, ...]] = {
    PackageManager.APT: (
        *("binutils", "bison", "build-essential", "bzip2", "ca-certificates", "ccache", "flex"),
        *("libssl-dev", "patch", "perl", "pkg-config", "python3-minimal", "xz-utils"),
        "zlib1g-dev",
    )
}
SETUP_SCRIPT = "setup-base.sh"
BASE_LIFE = timedelta(days=90)
"""An older base instance is made anew by the next launch (craft-providers' lxd/launcher.py)."""


def base_packages(base: Base) -> tuple[str, ...]:
    """Every package that `base` gets."""
    return tuple(sorted({*TOOLS[base.package_manager], *packages_for(base)}))


def setup_digest(base: Base) -> str:
    """Changes whenever what the setup of `base` installs does."""
    content = [resources.script(SETUP_SCRIPT), *base_packages(base)]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]


def record_path(base: Base, images_dir: Path) -> Path:
    """Where the record of the current base is kept (host)."""
    return images_dir / f"{base.slug}-{setup_digest(base)}.json"


def load_record(base: Base, images_dir: Path) -> dict[str, Any] | None:
    """The record of the current base; None if it was not made yet, is too old, or is damaged."""
    try:
        path = record_path(base, images_dir)
        record = None if _has_expired(path) else json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("base") == base.name else None


def write_record(
    record: dict[str, Any], base: Base, images_dir: Path, made: datetime | None = None
) -> None:
    """Keep the record of the current base, whole or not at all.

    Args:
        record: What the base contains.
        base: The distribution.
        images_dir: Directory of the records (host).
        made: When the base instance was made; None: now. The file gets this time, since the content
            is a part of the build key.
    """
    path = record_path(base, images_dir)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(record, indent=1, sort_keys=True))
    if made:
        os.utime(partial, (made.timestamp(), made.timestamp()))
    partial.replace(path)


def _has_expired(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > BASE_LIFE.total_seconds()
