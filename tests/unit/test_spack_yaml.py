"""From a plan to Spack's environment; run as a program, it regenerates the snapshots."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import DATA
from plan_samples import SPACK, sample_plan, spack_plan

from slurm_factory.config import Settings
from slurm_factory.constants import BuildType
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.plan.releases import series
from slurm_factory.spack_yaml import LOCAL_BUILDCACHE, OWN_PACKAGES, SITE_YAML, generate_yaml_string

SNAPSHOTS = DATA / "spack_yaml"
HOSTILE = (
    *("a\nb: c", "a\r\n  - b", '" x: "y', "' x", "\\", "\\n", "{{ 7 * 7 }}", "{% for %}", "{# #}"),
    *("# none", "a #b", ": ", "- ", "? x", "&a", "*a", "!!python/object:os.system", "|", ">", "%"),
    *("[a, b]", "{a: b}", "~", "null", "yes", "0x10", "1e3", "2026-06-01", "", " ", "\t"),
    *("\x00", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "ħ", "\U0001f600", "\udc80"),
    "x" * 5000,
)


def snapshot_plan(build_type: BuildType, release: str = "25.05.0") -> BuildPlan:
    return spack_plan(
        release, gpu=build_type is BuildType.GPU, minimal=build_type is BuildType.MINIMAL
    )


def shown(plan: BuildPlan) -> str:
    """The environment, without the digest of the sysroot's files."""
    return generate_yaml_string(plan).replace(str(plan.compiler.sysroot), "SYSROOT")


def snapshot(build_type: BuildType) -> Path:
    return SNAPSHOTS / f"{build_type}.yaml"


def environment(plan: BuildPlan) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(generate_yaml_string(plan))
    assert list(document) == ["spack"]
    return dict(document["spack"])


def plan_with(**changes: Any) -> BuildPlan:
    return spack_plan(spack=replace(SPACK, **changes))


def keys(value: Any) -> Any:
    """The keys of a document without the values, lists by their length."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(item) for item in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("build_type", BuildType)
def test_environment_is_the_same_as_ever(build_type: BuildType) -> None:
    path = snapshot(build_type)
    assert shown(snapshot_plan(build_type)) == path.read_text("utf-8"), (
        f"{path.name} differs; if that is intended, run: python tests/unit/{Path(__file__).name}"
    )


def test_another_release_changes_the_version_in_the_spec_and_nothing_else() -> None:
    snapshots = {build_type: snapshot(build_type).read_text("utf-8") for build_type in BuildType}
    for name, build_type in product(series(), BuildType):
        plan = snapshot_plan(build_type, name)
        assert plan.roots[0].startswith(f"slurm@={plan.release.spack_version} ")
        expected = snapshots[build_type].replace("25-05-0-1", plan.release.spack_version)
        assert shown(plan) == expected


def test_no_string_of_the_user_can_break_out_of_its_value() -> None:
    harmless = ("x",) * len(HOSTILE)
    document = environment(plan_with(source_mirrors=HOSTILE))
    harmless_document = environment(plan_with(source_mirrors=harmless))
    assert keys(document) == keys(harmless_document)
    urls = [mirror["url"] for mirror in document["mirrors"].values()]
    assert sorted(urls[3:]) == sorted(HOSTILE)


@pytest.mark.parametrize("text", ["a\nb: c", '" x: "y', "{{ 7 * 7 }}"])
def test_the_target_cannot_break_out_of_its_value(text: str) -> None:
    wanted = environment(plan_with(target=text))["packages"]["all"]
    assert (wanted["require"], wanted["target"]) == ([f"target={text}"], [text])


def test_specs_are_the_roots_of_the_plan_in_their_order() -> None:
    plan = spack_plan("25.05", gpu=True, additional_variants="+hdf5 ~lua")
    assert environment(plan)["specs"] == list(plan.roots)


def test_the_file_of_the_user_is_included_before_the_externals_and_only_if_there_is_one() -> None:
    assert environment(spack_plan())["include"] == ["externals.yaml"]
    assert environment(plan_with(config="packages: {}"))["include"] == [
        SITE_YAML,
        "externals.yaml",
    ]


def test_the_text_of_the_user_never_reaches_the_template() -> None:
    assert "hostile" not in generate_yaml_string(plan_with(config="hostile: {{ 1 }}"))


def test_directories_of_the_cache_are_those_that_the_settings_name() -> None:
    settings = Settings(cache_dir=Path("/c"))
    document = environment(spack_plan())
    inside = "/opt/slurm-factory-cache"
    sources = f"{inside}/{settings.source_cache_dir.name}"
    assert document["mirrors"]["sources"]["url"] == f"file://{sources}"
    buildcache = f"file://{inside}/{settings.buildcache_dir.name}"
    assert document["mirrors"][LOCAL_BUILDCACHE]["url"] == buildcache
    own = [document["config"][key] for key in ("source_cache", "misc_cache", "build_stage")]
    own.append(document["mirrors"][OWN_PACKAGES]["url"].removeprefix("file://"))
    assert not [path for path in own if path.startswith(inside)]


def test_packages_by_other_recipes_come_from_a_cache_of_their_own_first() -> None:
    mirrors = environment(plan_with(buildcache="spack-buildcache-site/0123"))["mirrors"]
    urls = [mirror["url"] for mirror in mirrors.values() if mirror["binary"]]
    inside = "file:///opt/slurm-factory-cache"
    assert urls == [
        f"{inside}/spack-buildcache-site/0123",
        f"{inside}/spack-buildcache",
        "file:///srv/build/spack-packages",
    ]


def test_only_the_build_cache_in_the_instance_is_written_to() -> None:
    mirrors = environment(plan_with(buildcaches=("https://a.example", "https://b.example")))[
        "mirrors"
    ]
    binary = {name: mirror for name, mirror in mirrors.items() if mirror["binary"]}
    assert [name for name, mirror in binary.items() if mirror["autopush"]] == [OWN_PACKAGES]


def test_spack_sees_remote_build_caches_as_directories_without_their_urls() -> None:
    urls = ("s3://bucket/x", "https://me:secret@b.example", "oci://r.example/y")
    mirrors = environment(plan_with(buildcaches=urls))["mirrors"]
    found = [mirror for name, mirror in mirrors.items() if name.startswith("binaries-")]
    assert len({mirror["url"] for mirror in found}) == 3
    for mirror in found:
        assert mirror["url"].startswith("file:///opt/slurm-factory/buildcaches/")
        assert mirror["signed"] is False
    assert not {"bucket", "secret", "r.example"} & {*re.findall(r"[\w.]+", str(mirrors))}


def test_a_mirror_on_this_machine_is_not_given_to_spack_which_cannot_see_it() -> None:
    plan = plan_with(source_mirrors=("file:///srv/slurm", "https://a.example"))
    mirrors = environment(plan)["mirrors"]
    assert "srv/slurm" not in str(mirrors)
    assert mirrors["sources-1"] == {"url": "https://a.example", "source": True, "binary": False}


def test_a_local_mirror_is_asked_before_one_of_the_network() -> None:
    plan = plan_with(source_mirrors=("https://a.example",), buildcaches=("https://b.example",))
    urls = [mirror["url"] for mirror in environment(plan)["mirrors"].values()]
    assert [url.split(":")[0] for url in urls] == ["file", "file", "file", "https", "file"]


def test_what_is_wanted_of_libraries_never_turns_an_external_of_the_user_down() -> None:
    packages = environment(spack_plan())["packages"]
    assert [name for name, wanted in packages.items() if "require" in wanted] == ["all"]


def test_every_package_is_compiled_for_the_target_even_one_with_requirements_of_its_own() -> None:
    wanted = environment(plan_with(target="zen4"))["packages"]["all"]
    assert (wanted["require"], wanted["target"]) == (["target=zen4"], ["zen4"])


def test_packages_of_our_own_recipes_and_with_other_flags_are_reused_by_hash_only() -> None:
    plan = spack_plan()
    reuse = environment(plan)["concretizer"]["reuse"]
    assert reuse["roots"] is False
    (source,) = reuse["from"]
    assert source["type"] == "buildcache"
    assert source["exclude"] == ["namespace=slurm_factory"]
    assert source["include"] == [f"cflags='{' '.join(plan.compiler.flags)}'"]


@pytest.mark.parametrize(
    ("changes", "collected"),
    [({}, ["munge", "slurm", "openmpi"]), ({"minimal": True}, ["munge", "slurm"])],
)
def test_the_view_holds_what_users_run_and_no_more(
    changes: dict[str, Any], collected: list[str]
) -> None:
    view = environment(spack_plan(**changes))["view"]["default"]
    assert view["select"] == collected
    assert (view["link"], view["link_type"]) == ("all", "hardlink")


def test_jobs_do_not_change_the_environment() -> None:
    assert generate_yaml_string(spack_plan(jobs=7)) == generate_yaml_string(spack_plan())


def test_passwords_in_the_url_of_spack_are_not_written_down() -> None:
    refs = replace(SPACK.refs, url="https://me:secret@git.example/spack.git")
    assert "secret" not in generate_yaml_string(plan_with(refs=refs))


def test_a_plan_without_spack_has_no_environment() -> None:
    with pytest.raises(ValueError, match="Spack recipe"):
        generate_yaml_string(sample_plan())


if __name__ == "__main__":
    SNAPSHOTS.mkdir(parents=True, exist_ok=True)
    for old in SNAPSHOTS.iterdir():
        old.unlink()
    for each in BuildType:
        snapshot(each).write_text(shown(snapshot_plan(each)), "utf-8")
