"""Reads and writes manifests."""

import shlex
from pathlib import Path

from pydantic import ValidationError

from slurm_factory.constants import JSON_VERSION
from slurm_factory.documents import parse_json, read_text
from slurm_factory.exceptions import OutputError
from slurm_factory.package.records import Manifest
from slurm_factory.package.writing import write_text


def write_manifest(manifest: Manifest, directory: Path) -> Path:
    """Write the manifest under its name into `directory` (host) and return its path.

    Raises:
        OutputError: It cannot be written.
    """
    text = manifest.model_dump_json(indent=2) + "\n"
    return write_text(directory / manifest.identity.manifest, text)


def load_manifest(path: Path) -> Manifest:
    """The manifest at `path` (host).

    Raises:
        OutputError: It cannot be read, is not a manifest, or has a version this slurm-factory
            does not know.
    """
    try:
        text = read_text(path)
        version = parse_json(text)["manifest_version"]
    except OSError as error:
        raise _unusable(path, f"{error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(path, "It is not a manifest of slurm-factory.") from error
    if version != JSON_VERSION:
        raise OutputError(
            f"The manifest {path} has version {version}.",
            details=f"This slurm-factory knows version {JSON_VERSION}.",
            resolution="Use the slurm-factory that wrote it, or a newer one: uv tool upgrade"
            " slurm-factory",
        )
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _unusable(path, f"{where}: {first['msg']}") from error


def _unusable(path: Path, details: str) -> OutputError:
    return OutputError(
        f"The manifest {path} cannot be used.",
        details=details,
        resolution=f"Remove it and build again: rm {shlex.quote(str(path))}",
    )
