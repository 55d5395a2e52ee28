"""A build on the machine itself, for which an instance stands."""

import tarfile
from pathlib import Path

import pytest
from fault_tools import MINIMAL, RELEASE, Site, machine_for_builds, make_cache, run_there

from slurm_factory.config import Settings
from slurm_factory.package.manifest import load_manifest

pytestmark = pytest.mark.integration

PLACE_TELLING = {"software/lib/libpmi.so.0.0.0", "software/lib/nss/libnss_slurm.so.2"}
"""Libtool gave them the run path of the build directory, whose length stays when it is replaced."""

WITH_NVML = ("gpu_nvml.c", "gres_mps.c")
"""Their options name the directory of a header outside of Slurm's source."""


def test_destructive_mode_gives_the_same_files_and_leaves_the_machine_alone(
    lxd: Settings, site: Site, tmp_path: Path
) -> None:
    # ccache takes an object only for the same source, compiler and options.
    cache = make_cache(tmp_path, lxd, site.cache / "ccache")
    [objects] = (cache / "ccache").iterdir()
    objects.rename(objects.with_name(f"{objects.name}-this-machine"))
    with machine_for_builds(site, cache) as machine:
        known = compiled_in(cache)
        run_there(machine, "occupy.sh")
        document = machine.build(*MINIMAL, "--destructive-mode")
        assert run_there(machine, "changes.sh") == ""
        assert compiled_in(cache) <= known + len(WITH_NVML)
    name = load_manifest(site.manifest).identity.software_tarball
    built = contents(tmp_path / "builds" / RELEASE / name)
    expected = contents(site.manifest.with_name(name))
    assert Path(document["manifest_path"]).name == site.manifest.name
    assert built.keys() == expected.keys()
    assert {name for name in built if built[name] != expected[name]} <= PLACE_TELLING


def compiled_in(cache: Path) -> int:
    """The number of compilations that a compiler cache knows."""
    return sum(1 for _ in (cache / "ccache").glob("*/**/*R"))


def contents(tarball: Path) -> dict[str, bytes | str]:
    """What each member of a tarball holds, or where it leads."""
    with tarfile.open(tarball) as archive:
        members = ((member, archive.extractfile(member)) for member in archive if member.isreg())
        files = {member.name: file.read() for member, file in members if file}
        return files | {m.name: m.linkname for m in archive.getmembers() if m.issym()}
