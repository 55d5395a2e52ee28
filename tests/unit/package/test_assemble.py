"""What a package says about itself must be all of what is in it."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, get_args

import pytest
from job_samples import Here, build_here
from plan_samples import SPACK as CHOICE
from plan_samples import sample_plan, sample_settings, spack_plan
from relocate_toolkit import POLICY, Instance, make_instance, make_tree
from reporter_samples import Listener

from slurm_factory.constants import Deps
from slurm_factory.exceptions import VerificationError
from slurm_factory.package import assemble as assembly
from slurm_factory.package.assemble import assemble
from slurm_factory.package.built import Built, Package
from slurm_factory.package.manifest import Manifest, SpackBuild, SpackPackage, load_manifest
from slurm_factory.package.provenance import check_provenance
from slurm_factory.plan.plan import SitePatch
from slurm_factory.recipes.spack.build import OWN_PATHS
from slurm_factory.relocate.closure import Directory, Library
from slurm_factory.relocate.elf import scan
from slurm_factory.relocate.hardening import Figure, Floors, Group, Share
from slurm_factory.relocate.policy import Policy
from slurm_factory.relocate.relocate import find_closure

SLURMS_OWN = {"bin/tool", "lib/slurm/libengine.so", "lib/slurm/plug.so"}
MUNGE = "bin/alone"
RECORD = {"base": "debian@12", "packages": {"gcc-12:amd64": "12.2.0-14"}}
FREE: Floors = dict.fromkeys(Figure)
ALL_CANARIES = FREE | {Figure.CANARY: 1.0}
"""Not met by either group: libraries whose functions have no arrays need none."""


FloorsByRecipe: TypeAlias = dict[Deps, dict[Group, Floors]]


@pytest.fixture(autouse=True)
def floors(monkeypatch: pytest.MonkeyPatch) -> FloorsByRecipe:
    """The toys are compiled without any flags."""
    free: FloorsByRecipe = {
        each: {"slurm": FREE, "plugins": FREE, "bundled": FREE} for each in Deps
    }
    monkeypatch.setattr(assembly, "load_floors", lambda: free)
    return free


@dataclass
class ToyLibraries(Instance):
    """The toy instance, with packages and licenses as a distribution has them."""

    packages: dict[str, Package] = field(default_factory=dict)

    def fetch(self, sonames: Sequence[str]) -> Mapping[str, Library]:
        found = super().fetch(sonames)
        return {
            soname: replace(library, licenses=self._licenses(library.package))
            for soname, library in found.items()
        }

    def fetch_directory(self, patterns: Sequence[str]) -> Directory | None:
        found = super().fetch_directory(patterns)
        return found and replace(found, licenses=self._licenses(found.package))

    def fetch_common_licenses(self) -> Path:
        return self.folder / "common-licenses"

    def package(self, name: str) -> Package:
        return self.packages.setdefault(name, Package(name, "1.0-1", "amd64", f"{name}-source"))

    def _licenses(self, package: str) -> tuple[Path, ...]:
        self.package(package)
        path = self.folder / f"{package}-copyright"
        path.write_text("See /usr/share/common-licenses/GPL-2.")
        return (path,)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the toy instance and the toy tree."""
    folder = tmp_path_factory.mktemp("compiled")
    make_tree(folder / "tree", make_instance(folder / "instance"))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setattr(assembly, "load_policy", lambda: POLICY)
    with build_here(sample_plan(gpu=True), sample_settings(tmp_path / "cache")) as here:
        yield here


def built_of(libraries: ToyLibraries, compiled: Path, here: Here, policy: Policy = POLICY) -> Built:
    """What a recipe would return: the toy tree, with munge of another package in it."""
    shutil.copytree(compiled / "instance", libraries.folder)
    (libraries.folder / "common-licenses").mkdir()
    (libraries.folder / "common-licenses/GPL-2").write_text("the GPL")
    tree = shutil.copytree(compiled / "tree", here.work / "software")
    license_file = tree / "share/licenses/slurm/LICENSE.OpenSSL"
    license_file.parent.mkdir(parents=True)
    license_file.write_text("GPL, with an exception")
    closure = find_closure(tree, libraries, policy)
    return Built(
        tree=tree,
        closure=closure,
        packages=libraries.packages,
        common_licenses=libraries.fetch_common_licenses(),
        installed={PurePosixPath(MUNGE): libraries.package("munge")},
        build_paths=(),
        configure=("--with-munge",),
    )


@pytest.fixture
def built(here: Here, compiled: Path, tmp_path: Path) -> Built:
    return built_of(ToyLibraries(tmp_path / "instance"), compiled, here)


def assembled(here: Here, built: Built) -> tuple[Manifest, dict[str, Any]]:
    """The manifest and the SBOM of a package."""
    path = assemble(here.job, built, RECORD)
    manifest = load_manifest(path)
    sbom: dict[str, Any] = json.loads((path.parent / manifest.identity.sbom).read_text())
    return manifest, sbom


def test_every_elf_file_that_is_not_slurms_own_is_in_manifest_and_sbom(
    here: Here, built: Built
) -> None:
    manifest, sbom = assembled(here, built)
    foreign = {str(path) for path in scan(built.tree)} - SLURMS_OWN
    assert {MUNGE, "lib/private/common/plugin/extra.so"} < foreign
    assert {item.file for item in manifest.bundled} == foreign
    assert {component["bom-ref"] for component in sbom["components"]} == foreign


def test_programs_and_plugins_are_listed_with_the_package_they_are_from(
    here: Here, built: Built
) -> None:
    manifest, sbom = assembled(here, built)
    by_file = {item.file: item for item in manifest.bundled}
    munge = by_file[MUNGE]
    assert (munge.kind, munge.package, munge.soname) == ("program", "munge", None)
    plugin = by_file["lib/private/common/plugin/extra.so"]
    assert (plugin.kind, plugin.package) == ("library", "common-package")
    assert [by_file[file].soname for file in plugin.needs] == ["libdeep.so.1"]
    (component,) = [c for c in sbom["components"] if c["bom-ref"] == MUNGE]
    assert component["type"] == "application"
    assert component["purl"].startswith("pkg:deb/debian/munge@1.0-1?")
    assert [entry["name"] for entry in component["properties"]] == ["slurm-factory:file"]


def test_manifest_holds_the_whole_plan_and_what_the_base_contained(
    here: Here, built: Built
) -> None:
    manifest, _ = assembled(here, built)
    assert manifest.plan == json.loads(json.dumps(here.job.plan.describe()))
    assert {"patches", "sources", "variants", "cflags"} <= {*manifest.plan}
    assert manifest.base_record == RECORD
    assert manifest.build_key == here.job.plan.build_key(RECORD)


def test_provenance_is_about_the_packed_files_and_checksums_cover_it(
    here: Here, built: Built
) -> None:
    manifest, _ = assembled(here, built)
    staging, names = here.job.workspace.artifacts, manifest.identity.names
    statement = check_provenance(manifest, staging)
    assert statement is not None
    subjects = {each.name for each in statement.subject}
    assert subjects == {names.software, names.module, names.sbom}
    lines = (staging / names.checksums).read_text().splitlines()
    assert {line.split()[-1] for line in lines} == {*subjects, names.provenance}
    assert {file.name for file in manifest.files} == {
        *(*subjects, names.provenance, names.checksums)
    }


def test_hardening_of_slurm_of_its_plugins_and_of_others_is_counted_apart(
    here: Here, built: Built
) -> None:
    manifest, _ = assembled(here, built)
    slurm, plugins, bundled = (manifest.hardening[group] for group in get_args(Group))
    assert slurm[Figure.RELRO] == Share(have=2, of=2)
    assert plugins[Figure.RELRO] == Share(have=1, of=1)
    assert bundled[Figure.RELRO].of == len(manifest.bundled)
    assert slurm[Figure.PIE] == bundled[Figure.PIE] == Share(have=1, of=1)


def test_what_the_host_must_have_is_distinguished_from_what_it_may_have(
    here: Here, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = POLICY.model_dump(mode="json")
    policy["dlopened"] = []
    policy["directories"] = []
    policy["outside"][0]["packages"] = {"apt": "libc6"}
    policy["outside"].append({"sonames": ["libnamed.so*"], "reason": "opened", "packages": {}})
    changed = type(POLICY).model_validate(policy)
    monkeypatch.setattr(assembly, "load_policy", lambda: changed)
    built = built_of(ToyLibraries(tmp_path / "instance"), compiled, here, changed)
    manifest, _ = assembled(here, built)
    found = {item.soname: (item.required, item.packages) for item in manifest.host_requirements}
    assert found["libc.so.6"] == (True, {"apt": "libc6"})
    assert found["libnamed.so.2"] == (False, {})


def test_texts_that_licenses_name_come_along_or_nothing_does(here: Here, built: Built) -> None:
    assembled(here, built)
    assert (built.tree / "share/licenses/common-licenses/GPL-2").read_text() == "the GPL"
    (built.common_licenses / "GPL-2").unlink()
    (here.work / "artifacts").rename(here.work / "before")
    with pytest.raises(VerificationError, match="license text of"):
        assemble(here.job, built, RECORD)


@pytest.mark.parametrize(
    ("group", "lacking"), [("slurm", "lib/slurm/libengine.so"), ("bundled", "lib/private/")]
)
def test_package_that_is_less_hardened_than_before_is_not_made(
    here: Here, built: Built, floors: FloorsByRecipe, group: Group, lacking: str
) -> None:
    floors[Deps.SYSTEM][group] = ALL_CANARIES
    with pytest.raises(VerificationError) as caught:
        assembled(here, built)
    assert caught.value.exit_code == 6
    assert caught.value.details.startswith(f"{group}: canary ")
    assert lacking in caught.value.details


def test_floors_are_those_of_the_catalogs_releases(
    here: Here, built: Built, floors: FloorsByRecipe
) -> None:
    floors[Deps.SYSTEM]["slurm"] = ALL_CANARIES
    patch = SitePatch(Path("/srv/site.patch"), b"x")
    patched = here.with_plan(replace(here.job.plan, site_patches=(patch,), site_suffix="a"))
    reporter = Listener()
    assembled(replace(patched, job=replace(patched.job, reporter=reporter)), built)
    assert "less hardened" in reporter.warnings[-1]


def test_floor_of_the_other_recipe_does_not_apply(
    here: Here, built: Built, floors: FloorsByRecipe
) -> None:
    floors[Deps.SPACK]["slurm"] = ALL_CANARIES
    assembled(here, built)


# --- packages of the Spack recipe ---------------------------------------------------------------

SPACK_HASH = "h" * 32


@dataclass
class SpackToys(ToyLibraries):
    """The toy instance, with packages as Spack knows them."""

    def package(self, name: str) -> Package:
        package = Package(name, "1.0", "x86_64_v3", name, kind="generic", spack_hash=SPACK_HASH)
        return self.packages.setdefault(name, package)


SPACK = SpackBuild(
    concretized=False,
    packages=(
        SpackPackage(
            name="lz4", version="1.10", hash=SPACK_HASH, run_time=True, cached=True, seconds=1.5
        ),
    ),
    externals=("openssl@3.0",),
    configure=("--with-munge=/opt/slurm-factory/store/munge",),
)


@pytest.fixture
def built_by_spack(here: Here, compiled: Path, tmp_path: Path) -> Built:
    built = built_of(SpackToys(tmp_path / "instance"), compiled, here)
    paths = tuple(map(str, OWN_PATHS))
    return replace(built, spack=SPACK, configure=SPACK.configure, build_paths=paths)


def test_a_package_of_the_spack_recipe_shows_what_spack_did(
    here: Here, built_by_spack: Built
) -> None:
    manifest, sbom = assembled(here.with_plan(spack_plan(gpu=True, glibc="base")), built_by_spack)
    assert manifest.spack is not None
    assert (manifest.spack.cached, manifest.spack.externals) == (1, ("openssl@3.0",))
    assert manifest.configure == manifest.spack.configure
    bundled = {item.file: item for item in manifest.bundled}[MUNGE]
    assert (bundled.package_type, bundled.spack_hash) == ("generic", SPACK_HASH)
    (component,) = [c for c in sbom["components"] if c["bom-ref"] == MUNGE]
    assert component["purl"] == "pkg:generic/munge@1.0?arch=x86_64_v3"
    assert {"name": "slurm-factory:spack-hash", "value": SPACK_HASH} in component["properties"]


def test_a_path_of_spacks_store_in_the_package_fails_the_audit(
    here: Here, built_by_spack: Built
) -> None:
    script = built_by_spack.tree / "bin/mpicc"
    script.write_text("#!/opt/slurm-factory/store/perl-5/bin/perl\n")
    with pytest.raises(VerificationError) as caught:
        assembled(here.with_plan(spack_plan(gpu=True, glibc="base")), built_by_spack)
    assert "bin/mpicc" in caught.value.details


def test_floors_of_the_spack_recipe_do_not_apply_to_other_recipes(
    here: Here, built_by_spack: Built, floors: FloorsByRecipe
) -> None:
    floors[Deps.SPACK]["slurm"] = ALL_CANARIES
    choice = replace(CHOICE, buildcache="spack-buildcache-site/0123")
    assembled(here.with_plan(spack_plan(gpu=True, glibc="base", spack=choice)), built_by_spack)


def test_floors_of_the_spack_recipe_apply_without_one(
    here: Here, built_by_spack: Built, floors: FloorsByRecipe
) -> None:
    floors[Deps.SPACK]["slurm"] = ALL_CANARIES
    with pytest.raises(VerificationError, match="less hardened"):
        assembled(here.with_plan(spack_plan(gpu=True, glibc="base")), built_by_spack)


def test_a_package_of_the_other_recipe_says_nothing_of_spack(here: Here, built: Built) -> None:
    manifest, sbom = assembled(here, built)
    assert manifest.spack is None
    assert {item.package_type for item in manifest.bundled} == {"deb"}
    assert "spack" not in json.dumps(sbom)
