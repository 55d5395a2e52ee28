"""The package of a release has what Slurm can do, and nothing else."""

import re
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from fault_tools import PLAN, RELEASE, Site
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


def test_gpu_build_has_the_plugins_and_no_library_of_a_vendor(
    lxd: Settings, build_package: BuildPackage
) -> None:
    standard = build_package(RELEASE, "same")
    # With the caches and the base of this site: it takes the same objects but for the plugins.
    site = Site(lxd.cache_dir, lxd.project_name)
    software = _software(Path(site.build("build", *PLAN, "--gpu")["manifest_path"]))
    with tarfile.open(software) as archive:
        names = set(archive.getnames())
    assert names >= GPU_PLUGINS
    assert [name for name in names if GPU_LIBRARY.search(name)] == []
    size = _software(standard).stat().st_size
    assert size <= 25 * MEGABYTE
    assert software.stat().st_size <= size + MEGABYTE


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
