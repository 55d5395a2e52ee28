"""Which C library a package needs at most, and how it shows."""

from dataclasses import replace

import pytest
from plan_samples import make_request, sample_plan, spack_plan

from slurm_factory.constants import Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.base_setup import setup_digest
from slurm_factory.plan.bases import Base, bases
from slurm_factory.plan.glibc import choose_floor, default_floor, sysroot_of


@pytest.mark.parametrize("base", bases(), ids=lambda base: base.name)
def test_spack_builds_for_the_oldest_glibc_and_the_distributions_libraries_for_their_own(
    base: Base,
) -> None:
    assert choose_floor("", Deps.SPACK, base) == "2.28"
    assert choose_floor("", Deps.SYSTEM, base) == ""
    for own in ("base", base.glibc):
        assert choose_floor(own, Deps.SPACK, base) == ""
        assert choose_floor(own, Deps.SYSTEM, base) == ""
    assert choose_floor("2.34", Deps.SPACK, base) == "2.34"
    with pytest.raises(ConfigurationError, match="--deps system cannot"):
        choose_floor("2.28", Deps.SYSTEM, base)


@pytest.mark.parametrize("asked", ["2.27", "2.99", "3.1", "2.3", "2.031", "new", "2.28 ", "2.²8"])
def test_other_releases_are_refused(asked: str) -> None:
    with pytest.raises(ConfigurationError, match="--glibc") as caught:
        choose_floor(asked, Deps.SPACK, bases()[0])
    assert "from 2.28 to" in caught.value.details


def test_name_has_the_release_only_if_it_is_not_the_default() -> None:
    assert "glibc" not in spack_plan().stem
    assert "glibc" not in spack_plan(glibc="2.28").stem
    assert "glibc" not in sample_plan().stem
    assert spack_plan(glibc="2.34").stem.endswith("-glibc-2.34")
    assert spack_plan(glibc="base").stem.endswith("-glibc-base")
    command = make_request(deps=Deps.SPACK, glibc="2.34").command()
    assert "--glibc 2.34" in command


def test_every_release_has_a_base_a_build_cache_and_a_build_key_of_its_own() -> None:
    plans = [spack_plan(glibc=glibc) for glibc in ("", "2.34", "base")]
    assert len({setup_digest(plan.setup) for plan in plans}) == 3
    assert len({plan.build_key({}) for plan in plans}) == 3
    caches = [plan.spack.local_buildcaches for plan in plans if plan.spack]
    assert caches == [
        ("spack-buildcache",),
        ("spack-buildcache-site/spack-buildcache-glibc-2.34",),
        ("spack-buildcache-site/spack-buildcache-glibc-base",),
    ]
    own = spack_plan(glibc="2.34").spack
    assert own is not None
    (cache,) = replace(own, buildcache="spack-buildcache-site/abc").local_buildcaches
    assert cache == "spack-buildcache-site/abc-glibc-2.34"


def test_compilers_of_the_sysroot_are_a_part_of_what_spack_knows() -> None:
    assert default_floor(Deps.SPACK) == "2.28"
    sysroot = f"--sysroot={sysroot_of('2.28')}"
    assert sysroot in spack_plan().compiler.flags
    assert sysroot in spack_plan().compiler.slurm
    assert sysroot not in spack_plan().compiler.hardening
    plain = spack_plan(glibc="base").compiler
    assert plain.flags == plain.hardening
    assert spack_plan().describe()["glibc"] == "2.28"
    assert sample_plan().describe()["glibc"] is None
