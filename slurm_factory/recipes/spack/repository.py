"""The Spack repository of the factory: package recipes that replace builtin ones.

The factory writes everything that they share with it (releases, patches, flags, arguments of
configure) from its tables into one JSON file, which the package recipes read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from slurm_factory import resources
from slurm_factory.constants import INSTANCE_PREFIX, SPACK_NAMESPACE
from slurm_factory.fetch.upstream import catalog_source
from slurm_factory.plan.features import table
from slurm_factory.plan.plan import (
    CONFIGURE_ARGUMENTS,
    SPACK_REPOSITORY,
    patch_table,
)
from slurm_factory.plan.releases import catalog
from slurm_factory.recipes.patches import OURS
from slurm_factory.resources import patches_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from slurm_factory.plan.compiler import Compiler
    from slurm_factory.plan.releases import Release
    from slurm_factory.recipes.patches import PatchFile

FACTORY_JSON = "factory.json"
SLURM = "packages/slurm"
NVML = "packages/nvml_stub"
NVML_SCRIPT = "make-nvml-stub.sh"
WHEEL = re.compile(r"/nvidia_nvml_dev_cu\d+-(?P<version>[0-9.]+)-[^/]*\.whl")


def write_repository(
    target: Path,
    compiler: Compiler,
    release: Release | None = None,
    patches: Sequence[PatchFile] = (),
) -> None:
    """Write the repository, complete, as Spack reads it.

    Args:
        target: Directory (host) for repo.yaml; its old content is removed. Its path in the instance
            must end in spack_repo/slurm_factory, the name under which package recipes are imported
            (spack.readthedocs.io/en/latest/repositories.html).
        compiler: Flags of the build.
        release: The release to build; None: any of the catalog.
        patches: All patches of the build.
    """
    content = _content(compiler, release, patches)
    if target.exists():
        shutil.rmtree(target)
    for name, text in content.items():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)


def repository_digest(
    compiler: Compiler, release: Release | None = None, patches: Sequence[PatchFile] = ()
) -> str:
    """Hash of everything that `write_repository` writes."""
    digest = hashlib.sha256()
    for name, content in sorted(_content(compiler, release, patches).items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def factory_document(
    compiler: Compiler, release: Release | None = None, patches: Sequence[PatchFile] = ()
) -> dict[str, Any]:
    """The data of the package recipes, by key."""
    known = {each.spack_version: each for each in catalog() if each.sha256}
    if release:
        known[release.spack_version] = release
    return {
        "prefix": str(INSTANCE_PREFIX),
        "versions": {
            version: {"sha256": each.sha256, "url": _url(each)} for version, each in known.items()
        },
        "epochs": {version: each.epoch for version, each in known.items()},
        "patches": [{"file": row["file"], "when": _when(row)} for row in patch_table()],
        "more_patches": {
            "version": release.spack_version if release else "",
            "files": [
                [patch.name, hashlib.sha256(patch.content).hexdigest()]
                for patch in _further(patches)
            ],
        },
        "arguments": list(CONFIGURE_ARGUMENTS),
        "cflags": list(compiler.slurm),
        "ldflags": list(compiler.slurm_linker),
        "make": list(compiler.make),
        "features": [
            feature.model_dump(mode="json", include={"variant", "summary", "on", "off"})
            for feature in table()
            if feature.variant or feature.on
        ],
        "nvml": _nvml(),
    }


def _url(release: Release) -> str:
    """Of the archive; one that the user has brought is in the cache, and needs the right ending."""
    return f"file:///{release.archive}" if release.location else release.url


def _further(patches: Iterable[PatchFile]) -> Iterator[PatchFile]:
    """The patches that are not slurm-factory's own."""
    return (patch for patch in patches if patch.origin != OURS)


def _content(
    compiler: Compiler, release: Release | None, patches: Sequence[PatchFile]
) -> dict[str, bytes]:
    """Every file of the repository, by path."""
    files = dict(_files_below(patches_dir() / SPACK_REPOSITORY / SPACK_NAMESPACE))
    for row in patch_table():
        files[f"{SLURM}/{row['file']}"] = (patches_dir() / row["file"]).read_bytes()
    files |= {f"{SLURM}/{patch.name}": patch.content for patch in patches}
    files[f"{NVML}/{NVML_SCRIPT}"] = resources.script(NVML_SCRIPT).encode()
    document = json.dumps(factory_document(compiler, release, patches), indent=1, sort_keys=True)
    files[FACTORY_JSON] = f"{document}\n".encode()
    return files


def _files_below(directory: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Path in `directory` and content of each file, without Python's caches."""
    for entry in directory.iterdir():
        if entry.is_file():
            yield prefix + entry.name, entry.read_bytes()
        elif entry.name != "__pycache__":
            yield from _files_below(entry, f"{prefix}{entry.name}/")


def _when(patch: dict[str, str]) -> str:
    """The series of a patch in Spack's notation of Slurm versions: with dashes."""
    return f"@{patch['since']}:{patch.get('until', '')}".replace(".", "-")


def _nvml() -> dict[str, dict[str, str]]:
    """Version and source of the wheel with NVML's header."""
    source = catalog_source("nvml")
    found = [(match, url) for url in source.urls if (match := WHEEL.search(url))]
    return {match["version"]: {"sha256": source.sha256, "url": url} for match, url in found[:1]}
