"""From the manifest of a package, which anybody may have written, to the plan that builds it."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from plan_samples import sample_plan, sample_settings
from reporter_samples import Listener
from reproduce_samples import first_build

from slurm_factory.cache_dir import make_cache_dir
from slurm_factory.config import Settings
from slurm_factory.constants import BuildType, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch.own_source import read_source
from slurm_factory.package.manifest import Manifest, SpackBuild, load_manifest
from slurm_factory.plan.plan import BuildPlan, SitePatch
from slurm_factory.plan.spack import choose_spack
from slurm_factory.reproduce.again import Again, Given, plan_again

PATCH = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = sample_settings(tmp_path / "cache")
    make_cache_dir(settings)
    return settings


def manifest_of(plan: BuildPlan, settings: Settings, **made: Any) -> Manifest:
    path, _ = first_build(plan, settings, **made)
    manifest = load_manifest(path)
    shutil.rmtree(settings.builds_dir)
    return manifest


def again(manifest: Manifest, settings: Settings, **given: Any) -> Again:
    return plan_again(manifest, Given(**given), settings, Listener())


def changed(manifest: Manifest, **changes: Any) -> Manifest:
    """With other values in the plan."""
    return manifest.model_copy(update={"plan": manifest.plan | changes})


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"slurm_version": "24.11.5"},
        {"minimal": True},
        {"gpu": True},
        {"additional_variants": "+hdf5 ~restd"},
        {"slurm_version": "24.11.5", "backports": False},
        {"base": "debian@13"},
    ],
)
def test_the_plan_is_the_one_of_the_package(settings: Settings, asked: dict[str, Any]) -> None:
    plan = sample_plan(**asked)
    found = again(manifest_of(plan, settings), settings).plan
    assert found.describe() == plan.describe()
    assert found.stem == plan.stem


@pytest.mark.parametrize("glibc", ["", "base", "2.31"])
@pytest.mark.parametrize("build_type", list(BuildType))
def test_a_plan_of_spack_is_the_one_of_the_package(
    settings: Settings, glibc: str, build_type: BuildType
) -> None:
    spack = choose_spack(settings, "x86_64")
    plan = sample_plan(
        deps=Deps.SPACK,
        spack=spack,
        glibc=glibc,
        gpu=build_type is BuildType.GPU,
        minimal=build_type is BuildType.MINIMAL,
    )
    assert again(manifest_of(plan, settings), settings).plan == plan


def test_a_series_stays_at_its_release(settings: Settings) -> None:
    """Newer releases of the series may be known by now."""
    manifest = manifest_of(sample_plan("25.05.5"), settings)
    identity = manifest.identity.model_copy(
        update={"version": "25.05", "stem": manifest.identity.stem.replace("25.05.5", "25.05")}
    )
    manifest = manifest.model_copy(update={"identity": identity})
    plan = again(changed(manifest, version="25.05"), settings).plan
    assert (plan.requested, plan.release.release) == ("25.05", "25.05.5")


def test_spack_is_taken_as_the_package_had_it(settings: Settings, tmp_path: Path) -> None:
    older = {"spack_ref": "a" * 40, "spack_packages_ref": "v1.2", "spack_target": "x86_64_v3"}
    there = sample_settings(tmp_path / "cache", **older)
    plan = sample_plan(deps=Deps.SPACK, spack=choose_spack(there, "x86_64"))
    lock: dict[str, Any] = {"roots": [], "concrete_specs": {}}
    manifest = manifest_of(plan, settings, spack=record(lock))
    found = again(manifest, settings)
    assert found.plan.spack == plan.spack
    assert json.loads(found.lock) == lock
    # Then what this machine has decided is taken.
    assert again(manifest, settings, caches=True).lock == ""


def record(lock: Any) -> SpackBuild:
    return SpackBuild(concretized=True, packages=(), lock=lock)


def test_packages_of_others_are_built_again(tmp_path: Path) -> None:
    caches = sample_settings(tmp_path / "cache", spack_buildcaches=("https://cache.example/x",))
    make_cache_dir(caches)
    plan = sample_plan(deps=Deps.SPACK, spack=choose_spack(caches, "x86_64"))
    manifest = manifest_of(plan, caches)
    plans = [again(manifest, caches, caches=with_caches).plan for with_caches in (False, True)]
    assert [each.spack and each.spack.buildcaches for each in plans] == [
        (),
        ("https://cache.example/x",),
    ]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"release": {}}, "plan.release"),
        ({"architecture": None}, "plan.architecture"),
        ({"variants": {"x": "perhaps"}}, "plan.variants"),
        ({"backports": {"name": "../x"}}, "plan.backports"),
        ({"site_patches": "x"}, "plan.site_patches"),
        ({"glibc": 7}, "plan.glibc"),
        ({"spack": []}, "plan.spack"),
        ({"variants": {"hdf5": True}}, "what its manifest describes"),
        ({"variants": {"no such": True}}, "is not a variant"),
        ({"architecture": "sparc"}, "sparc"),
    ],
)
def test_wrong_manifests_are_refused(
    settings: Settings, changes: dict[str, Any], part: str
) -> None:
    manifest = changed(manifest_of(sample_plan(), settings), **changes)
    with pytest.raises(ConfigurationError) as refusal:
        again(manifest, settings)
    assert part in str(refusal.value)


def test_other_releases_and_sources_are_refused(settings: Settings) -> None:
    manifest = manifest_of(sample_plan(), settings)
    release: Any = manifest.plan["release"]
    for change, part in (
        ({"sha256": "0" * 64}, "another source"),
        ({"release": "24.11.99"}, "No catalog here has Slurm 24.11.99"),
    ):
        with pytest.raises(ConfigurationError, match=part):
            again(changed(manifest, release=release | change), settings)


def test_other_backports_are_refused(settings: Settings) -> None:
    manifest = manifest_of(sample_plan("24.11.5"), settings)
    backports: Any = manifest.plan["backports"]
    with pytest.raises(ConfigurationError, match="other patches of Debian"):
        again(changed(manifest, backports=backports | {"sha256": "0" * 64}), settings)


@pytest.mark.parametrize("ref", ["--upload-pack=x", "a b", "../x", 7])
def test_impossible_refs_of_spack_are_refused(settings: Settings, ref: object) -> None:
    spack = choose_spack(settings, "x86_64")
    manifest = manifest_of(sample_plan(deps=Deps.SPACK, spack=spack), settings)
    recorded: Any = manifest.plan["spack"]
    with pytest.raises(ConfigurationError, match="impossible spack_ref"):
        again(changed(manifest, spack=recorded | {"ref": ref}), settings)


def test_patches_of_the_site_have_to_be_given_again(settings: Settings, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.patch", "two.patch")]
    for number, file in enumerate(files):
        file.write_text(PATCH.replace("b", str(number)))
    patches = tuple(SitePatch(file, file.read_bytes()) for file in files)
    for suffix in ("", "site1"):
        plan = sample_plan(patches=patches, suffix=suffix)
        manifest = manifest_of(plan, settings)
        found = again(manifest, settings, patches=tuple(files)).plan
        assert found.describe() == plan.describe()
        for wrong in ((), files[:1], files[::-1]):
            with pytest.raises(ConfigurationError, match=r"not those of the package"):
                again(manifest, settings, patches=tuple(wrong))
    with pytest.raises(ConfigurationError, match=r"manifest says: none"):
        again(manifest_of(sample_plan(), settings), settings, patches=(files[0],))


def test_a_source_of_the_user_is_not_fetched_from_where_a_manifest_says(
    settings: Settings,
) -> None:
    manifest = manifest_of(sample_plan(), settings)
    release: Any = manifest.plan["release"]
    own = changed(manifest, release=release | {"location": "file:///etc/shadow"})
    with pytest.raises(ConfigurationError, match="a source of its own"):
        again(own, settings)
    with pytest.raises(ConfigurationError, match="--source is given"):
        again(manifest, settings, source="/x")


def test_another_source_of_the_user_is_refused(settings: Settings, tmp_path: Path) -> None:
    meta = b"Name: slurm\nMajor: 24\nMinor: 11\nMicro: 5\nVersion: 24.11.5\nRelease: 1\n"
    archive = tmp_path / "slurm-24.11.5.tar.gz"
    make_source(archive, meta)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    source = read_source(str(archive), digest, settings, Listener(), asked="24.11")
    plan = sample_plan("24.11", source=source)
    manifest = manifest_of(plan, settings)
    assert again(manifest, settings, source=str(archive)).plan.describe() == plan.describe()
    make_source(archive, meta + b"API_CURRENT: 42\n")
    with pytest.raises(ConfigurationError, match="is not the source of the package"):
        again(manifest, settings, source=str(archive))


def make_source(path: Path, meta: bytes) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("META", meta), ("configure", b"#!/bin/sh\n")):
            member = tarfile.TarInfo(f"slurm-24.11.5/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
