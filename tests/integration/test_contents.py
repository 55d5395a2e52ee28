"""The package of a release has what Slurm can do, and nothing else."""

import re
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from fault_tools import RELEASE, Site
from slurm_plugins import plugins_in, unexplained

from slurm_factory.config import Settings
from slurm_factory.fetch.sources import cached
from slurm_factory.fetch.upstream import slurm_source
from slurm_factory.package.manifest import load_manifest
from slurm_factory.plan.features import table
from slurm_factory.plan.releases import find_release

pytestmark = pytest.mark.integration

BuildPackage = Callable[..., Path]
MEGABYTE = 1_000_000
GPU_PLUGINS = {f"software/lib/slurm/gpu_{kind}.so" for kind in ("nvml", "rsmi", "oneapi")}
GPU_LIBRARY = re.compile(r"/lib(nvidia-ml|cuda|rocm_smi|amd_smi|ze_loader|ze_intel)[^/]*\.so")


def test_plugins_for_gpus_are_small_and_bring_no_library_of_a_vendor(
    site: Site, build_package: BuildPackage
) -> None:
    with tarfile.open(_software(site.manifest)) as archive:
        sizes = {member.name: member.size for member in archive.getmembers()}
    assert sizes.keys() >= GPU_PLUGINS
    assert [name for name in sizes if GPU_LIBRARY.search(name)] == []
    assert sum(sizes[name] for name in GPU_PLUGINS) <= MEGABYTE
    assert _software(build_package(RELEASE, "same")).stat().st_size <= 25 * MEGABYTE


def test_a_plugin_of_slurm_is_in_the_package_or_known_to_be_missing(
    build_package: BuildPackage, lxd: Settings
) -> None:
    path = build_package("24.11.5")
    manifest = load_manifest(path)
    archive = cached(slurm_source(find_release("24.11.5"), ()), lxd.source_cache_dir)
    assert archive is not None
    with tarfile.open(_software(path)) as software:
        files = [PurePosixPath(name) for name in software.getnames()]
    present = {file.stem for file in files if file.parent == PurePosixPath("software/lib/slurm")}
    left_out = [feature for feature in table() if feature.name not in manifest.features]
    assert unexplained(plugins_in(archive), present, left_out) == set()


def _software(manifest: Path) -> Path:
    return manifest.with_name(load_manifest(manifest).identity.software_tarball)
