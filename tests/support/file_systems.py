"""File systems that tests can fill, made as root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def as_root(*command: str) -> None:
    """Run a command as root, by sudo where need be."""
    prefix = () if os.geteuid() == 0 else ("sudo", "-n")
    subprocess.run([*prefix, *command], check=True, capture_output=True, text=True)


@contextmanager
def small_file_system(directory: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of this size, mounted at `directory`."""
    directory.mkdir()
    options = f"size={mebibytes}m,mode=0700,uid={os.getuid()},gid={os.getgid()}"
    as_root("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory))
    try:
        yield directory
    finally:
        as_root("umount", "--lazy", str(directory))


def fill(directory: Path) -> Path:
    """Leave no byte free; returns the file that takes them."""
    path = directory / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    return path
