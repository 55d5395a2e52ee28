"""The cache of continuous integration: when its name changes, and what it holds."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plan_samples import sample_plan, sample_settings, spack_plan

from slurm_factory.cache_dir import MARK
from slurm_factory.ci_cache import CiCache, ci_cache
from slurm_factory.config import Settings
from slurm_factory.plan.base_setup import record_path, write_record
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.plan.releases import find_release

RECORD: dict[str, Any] = {"base": "debian@12", "packages": {"gcc": "12.2"}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache")


def cache_with(record: dict[str, Any], plan: BuildPlan, settings: Settings) -> CiCache:
    """The cache once the base has this record."""
    settings.images_dir.mkdir(parents=True, exist_ok=True)
    write_record(record, plan.setup, settings.images_dir)
    return ci_cache(plan, settings)


def test_the_name_changes_with_the_package_and_with_the_base(settings: Settings) -> None:
    plan = sample_plan()
    first = ci_cache(plan, settings)
    assert ci_cache(plan, settings) == first
    others = [
        ci_cache(sample_plan(minimal=True), settings),
        ci_cache(sample_plan(additional_variants="+hdf5"), settings),
        ci_cache(replace(plan, inputs=replace(plan.inputs, code="newer")), settings),
        cache_with(RECORD, plan, settings),
        cache_with(RECORD | {"packages": {"gcc": "12.3"}}, plan, settings),
    ]
    assert len({first.key, *(each.key for each in others)}) == 1 + len(others)
    # All of them compile the same sources, so that each helps the others.
    assert {each.restore_keys for each in others} == {first.restore_keys}
    assert all(each.key.startswith(first.restore_keys[0]) for each in others)
    assert {each.paths for each in others} == {first.paths}


def test_a_compiler_cache_of_other_sources_is_not_restored(settings: Settings) -> None:
    plan = sample_plan()
    plans = [
        plan,
        replace(plan, release=find_release("25.05.8")),
        replace(plan, patches=()),
        replace(plan, destructive=True),
        sample_plan(base="ubuntu@24.04"),
        sample_plan(arch="aarch64"),
    ]
    caches = [
        ci_cache(each, settings) if not each.destructive else _of_this_machine(each, settings)
        for each in plans
    ]
    assert len({each.restore_keys for each in caches}) == len(plans)
    assert not any(
        each.key.startswith(other.restore_keys)
        for each in caches
        for other in caches
        if each is not other
    )


def _of_this_machine(plan: BuildPlan, settings: Settings) -> CiCache:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("slurm_factory.instances.this_machine.machine_record", lambda _: RECORD)
        return ci_cache(plan, settings)


def test_packages_of_spack_serve_other_releases(settings: Settings) -> None:
    older, newer = (ci_cache(spack_plan(release), settings) for release in ("24.11", "25.05"))
    assert older.restore_keys[0] != newer.restore_keys[0]
    assert older.restore_keys[1] == newer.restore_keys[1]
    assert older.restore_keys[0].startswith(older.restore_keys[1])
    # The services that keep caches find one only for the same paths.
    assert older.paths == newer.paths
    plan = spack_plan()
    assert plan.spack
    elsewhere = replace(plan, spack=replace(plan.spack, target="zen4"))
    assert ci_cache(elsewhere, settings).restore_keys[1] != older.restore_keys[1]
    assert ci_cache(spack_plan(glibc="2.31"), settings).restore_keys[1] != older.restore_keys[1]


def test_it_holds_what_a_build_looks_for_and_can_be_used(settings: Settings) -> None:
    plan = spack_plan()
    paths = ci_cache(plan, settings).paths
    assert {
        settings.cache_dir / MARK,
        settings.builds_dir,
        settings.buildcache_dir,
        settings.source_cache_dir,
        record_path(plan.setup, settings.images_dir),
    } <= {*paths}
    assert all(path.is_absolute() and settings.cache_dir in path.parents for path in paths)
    assert settings.configure_dir not in paths
    assert settings.logs_dir not in paths
    assert settings.work_dir not in paths
    here = _of_this_machine(sample_plan(destructive_mode=True), settings)
    assert not any(settings.images_dir in path.parents for path in here.paths)


def test_the_names_are_accepted_by_the_services_that_keep_caches(settings: Settings) -> None:
    plan = replace(sample_plan(arch="aarch64"), site_suffix="site1")
    for each in (ci_cache(plan, settings), ci_cache(spack_plan(), settings)):
        for name in (each.key, *each.restore_keys):
            # No commas (GitHub) and no slashes (GitLab); at most 512 characters (GitHub).
            assert re.fullmatch(r"[A-Za-z0-9._+-]{1,200}", name)
