"""The Spack repository, as it is written for Spack."""

import ast
import hashlib
import importlib.util
import inspect
import json
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from plan_samples import spack_plan

from slurm_factory import resources
from slurm_factory.constants import INSTANCE_PREFIX, SPACK_NAMESPACE
from slurm_factory.plan.compiler import Compiler
from slurm_factory.plan.features import table
from slurm_factory.plan.plan import CONFIGURE_ARGUMENTS, patches_for
from slurm_factory.plan.releases import catalog, find_release, series
from slurm_factory.recipes.patches import OURS, PatchFile
from slurm_factory.recipes.spack import repository as spack_repository
from slurm_factory.recipes.spack.repository import repository_digest, write_repository
from slurm_factory.resources import patches_dir

RECIPES = Path(str(patches_dir())) / "spack_repo" / SPACK_NAMESPACE / "packages"


BUILTIN = "spack_repo.builtin"
RELEASE = find_release("24.11")
COMPILER = spack_plan().compiler


class SpackPackage:
    """Of Spack's base class, what the recipes ask it for when they are hashed or built."""

    version = RELEASE.spack_version

    def content_hash(self, content: bytes | None = None) -> str:
        own = Path(inspect.getfile(type(self))).read_bytes()
        return hashlib.sha256(content or own).hexdigest()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    target = tmp_path / "spack_repo" / SPACK_NAMESPACE
    write_repository(target, COMPILER)
    return target


@pytest.fixture
def document(repository: Path) -> dict[str, Any]:
    """What the recipes read."""
    read: dict[str, Any] = json.loads((repository / "factory.json").read_text())
    return read


def recipe(name: str) -> str:
    return (RECIPES / name / "package.py").read_text()


@pytest.fixture
def builtin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As much of Spack as recipes import; returns where its own recipes are."""
    stand_in = MagicMock(Package=SpackPackage, AutotoolsPackage=SpackPackage)
    systems = ("generic", "autotools")
    for name in ("spack.package", *(f"{BUILTIN}.build_systems.{system}" for system in systems)):
        monkeypatch.setitem(sys.modules, name, stand_in)
    recipes = tmp_path / "builtin"
    for name in ("pmix", "ncurses"):
        path = recipes / name / "package.py"
        path.parent.mkdir(parents=True)
        base = "from spack.package import Package"
        path.write_text(f"{base}\n\n\nclass {name.capitalize()}(Package):\n    pass\n")
        load(path, f"{BUILTIN}.packages.{name}.package", monkeypatch)
    return recipes


def load(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def package(repository: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package that a recipe of ours describes, without Spack."""
    path = repository / "packages" / name / "package.py"
    module = load(path, f"ours_{name}", monkeypatch)
    return getattr(module, name.title().replace("_", ""))()


def applies(when: str, spack_version: str) -> bool:
    """`@24-11:` or `@23-02:24-05` as Spack reads it; 24-05-8-1 is in the latter."""
    low, _, high = when.removeprefix("@").partition(":")
    numbers = [int(part) for part in spack_version.split("-")]
    first, last = ([int(part) for part in text.split("-") if part] for text in (low, high))
    return first <= numbers and (not last or numbers[: len(last)] <= last)


def test_spack_finds_the_namespace_that_plans_name(repository: Path) -> None:
    about = yaml.safe_load((repository / "repo.yaml").read_text())
    assert about == {"repo": {"namespace": SPACK_NAMESPACE, "api": "v2.2"}}


def test_every_recipe_is_there(repository: Path) -> None:
    written = {path.parent.name for path in repository.glob("packages/*/package.py")}
    assert written == {path.parent.name for path in RECIPES.glob("*/package.py")}
    assert {"slurm", "munge", "nvml_stub"} <= written


def test_what_lies_beside_a_recipe_comes_along(tmp_path: Path) -> None:
    write_repository(tmp_path, COMPILER)
    beside = list(RECIPES.rglob("*.patch"))
    for path in beside:
        copy = tmp_path / "packages" / path.relative_to(RECIPES)
        assert copy.read_bytes() == path.read_bytes()


def test_a_package_that_was_taken_out_does_not_stay(repository: Path) -> None:
    old = repository / "packages" / "old" / "package.py"
    old.parent.mkdir()
    old.write_text("")
    write_repository(repository, COMPILER)
    assert not old.parent.exists()


def test_every_release_has_the_checksum_of_the_catalog(document: dict[str, Any]) -> None:
    assert document["versions"] == {
        release.spack_version: {"sha256": release.sha256, "url": release.url}
        for release in catalog()
        if release.sha256
    }


def test_further_patches_are_those_of_the_planned_release_only(tmp_path: Path) -> None:
    patches = (
        PatchFile("slurm-relocatable.patch", OURS, b"ours"),
        PatchFile("deb13u1-01-x.patch", "deb13u1", b"theirs"),
    )
    write_repository(tmp_path, COMPILER, RELEASE, patches)
    more = json.loads((tmp_path / "factory.json").read_text())["more_patches"]
    assert more == {
        "version": RELEASE.spack_version,
        "files": [["deb13u1-01-x.patch", hashlib.sha256(b"theirs").hexdigest()]],
    }
    slurm = tmp_path / "packages" / "slurm"
    assert (slurm / "slurm-relocatable.patch").read_bytes() == b"ours"
    assert (slurm / "deb13u1-01-x.patch").read_bytes() == b"theirs"
    digests = {repository_digest(COMPILER, RELEASE, patches[:number]) for number in range(3)}
    assert len(digests) == 3


def test_further_patches_stay_in_their_order(tmp_path: Path) -> None:
    patches = [PatchFile(f"z-{number}.patch", "z", b"") for number in range(120)]
    patches.append(PatchFile("a.patch", "site", b""))
    write_repository(tmp_path, COMPILER, RELEASE, patches)
    more = json.loads((tmp_path / "factory.json").read_text())["more_patches"]
    assert [name for name, _ in more["files"]] == [patch.name for patch in patches]


def test_a_checksum_of_the_user_is_the_one_that_spack_demands(tmp_path: Path) -> None:
    given = RELEASE.model_copy(update={"sha256": "d" * 64})
    write_repository(tmp_path, COMPILER, given)
    versions = json.loads((tmp_path / "factory.json").read_text())["versions"]
    assert versions[RELEASE.spack_version]["sha256"] == "d" * 64


@pytest.mark.parametrize("name", series())
def test_spack_applies_the_patches_that_a_plan_names_in_the_same_order(
    name: str, document: dict[str, Any], repository: Path
) -> None:
    release = find_release(name)
    chosen = [
        row["file"] for row in document["patches"] if applies(row["when"], release.spack_version)
    ]
    assert chosen == [patch.name for patch in patches_for(release)]
    assert all((repository / "packages" / "slurm" / file).is_file() for file in chosen)


def test_patches_are_the_files_of_the_other_recipe(repository: Path) -> None:
    rows = tomllib.loads((patches_dir() / "series.toml").read_text())["patch"]
    for row in rows:
        copy = repository / "packages" / "slurm" / row["file"]
        assert copy.read_bytes() == (patches_dir() / row["file"]).read_bytes()


def test_slurm_is_compiled_with_the_flags_of_the_other_recipe(document: dict[str, Any]) -> None:
    assert document["cflags"] == list(COMPILER.slurm)
    assert document["ldflags"] == list(COMPILER.slurm_linker)
    assert document["arguments"] == list(CONFIGURE_ARGUMENTS)
    assert document["prefix"] == str(INSTANCE_PREFIX)


def test_slurm_has_every_variant_of_the_feature_table(document: dict[str, Any]) -> None:
    rows = {row["variant"]: row for row in document["features"]}
    for feature in table():
        if feature.variant:
            assert rows[feature.variant]["on"] == list(feature.on)
            assert rows[feature.variant]["off"] == list(feature.off)


def test_what_every_package_has_is_configured_too(document: dict[str, Any]) -> None:
    assert {"--with-munge"} in [set(row["on"]) for row in document["features"]]


def test_slurm_recipe_knows_where_each_option_with_a_path_points() -> None:
    """An option that names a place of the distribution, or of the other recipe's build."""
    assignments = [node for node in ast.parse(recipe("slurm")).body if isinstance(node, ast.Assign)]
    places = next(a.value for a in assignments if ast.unparse(a.targets[0]) == "PLACES")
    assert isinstance(places, ast.Dict)
    known = {ast.literal_eval(key) for key in places.keys if key}
    paths = {on.partition("=")[0] for feature in table() for on in feature.on if "/" in on}
    assert paths <= known


def test_nvml_comes_from_the_source_of_the_other_recipe(document: dict[str, Any]) -> None:
    rows = resources.load_toml("sources.toml")["source"]
    row = next(row for row in rows if row["name"] == "nvml")
    [(version, source)] = document["nvml"].items()
    assert source == {"sha256": row["sha256"], "url": row["urls"][0]}
    assert f"-{version}-" in source["url"]


def test_nvml_stub_is_made_by_the_script_of_the_other_recipe(repository: Path) -> None:
    script = repository / "packages" / "nvml_stub" / "make-nvml-stub.sh"
    assert script.read_text() == resources.script("make-nvml-stub.sh")


def test_a_changed_script_makes_another_nvml_stub_than_the_build_cache_has(
    repository: Path, builtin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert builtin.is_dir()
    stub = package(repository, "nvml_stub", monkeypatch)
    before = stub.content_hash()
    assert stub.content_hash() == before
    with (repository / "packages/nvml_stub/make-nvml-stub.sh").open("a") as script:
        script.write("# corrected\n")
    assert stub.content_hash() != before


@pytest.mark.parametrize("name", ["pmix", "ncurses"])
def test_a_changed_builtin_recipe_makes_another_package_than_the_build_cache_has(
    name: str, repository: Path, builtin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = package(repository, name, monkeypatch)
    before = ours.content_hash()
    assert ours.content_hash() == before
    assert ours.content_hash(b"our recipe, changed") != before
    with (builtin / name / "package.py").open("a") as text:
        text.write("    option = 1\n")
    assert ours.content_hash() != before


def test_every_recipe_that_inherits_or_reads_a_file_has_a_hash_of_its_own() -> None:
    for path in RECIPES.glob("*/package.py"):
        text = path.read_text()
        if "(Builtin" in text or "__file__" in text:
            assert "def content_hash(" in text, path


def test_slurm_is_dated_and_hashed_by_its_release_and_not_by_the_session(
    repository: Path, builtin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert builtin.is_dir()
    slurm = package(repository, "slurm", monkeypatch)
    environment = MagicMock()
    slurm.setup_build_environment(environment)
    environment.set.assert_called_once_with("SOURCE_DATE_EPOCH", str(RELEASE.epoch))
    before = slurm.content_hash()
    epochs = sys.modules["ours_slurm"].FACTORY["epochs"]
    monkeypatch.setitem(epochs, RELEASE.spack_version, RELEASE.epoch + 86400)
    assert slurm.content_hash() != before


def test_no_recipe_downloads_a_patch() -> None:
    """A source cache holds archives; a patch from another place would break an offline build."""
    for path in RECIPES.glob("*/package.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "patch" and call.args:
                assert "://" not in ast.unparse(call.args[0]), path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/package.py")), ids=lambda p: p.parent.name)
def test_recipe_says_what_it_is_and_under_which_license(path: Path) -> None:
    tree = ast.parse(path.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1
    assert ast.get_docstring(tree)
    assert ast.get_docstring(classes[0])
    inherited = ast.unparse(classes[0].bases[0]).startswith("Builtin")
    assert inherited or "license(" in path.read_text()


def test_digest_is_the_same_until_the_flags_change() -> None:
    assert repository_digest(COMPILER) == repository_digest(spack_plan().compiler)
    assert repository_digest(COMPILER) != repository_digest(Compiler(("-O2",)))


def test_digest_changes_with_a_recipe_and_with_a_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "patches"
    shutil.copytree(Path(str(patches_dir())), copy)
    monkeypatch.setattr(spack_repository, "patches_dir", lambda: copy)
    digests = [repository_digest(COMPILER)]
    for name in ("spack_repo/slurm_factory/packages/munge/package.py", "slurm-pmix-dirs.patch"):
        file = copy / name
        file.write_bytes(file.read_bytes()[:-1] + b" ")
        digests.append(repository_digest(COMPILER))
    assert len(set(digests)) == len(digests)


def test_digest_does_not_change_with_what_python_leaves_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "patches"
    shutil.copytree(Path(str(patches_dir())), copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(spack_repository, "patches_dir", lambda: copy)
    before = repository_digest(COMPILER)
    left = copy / "spack_repo" / SPACK_NAMESPACE / "packages" / "slurm" / "__pycache__"
    left.mkdir()
    (left / "package.pyc").write_bytes(b"\0")
    assert repository_digest(COMPILER) == before
