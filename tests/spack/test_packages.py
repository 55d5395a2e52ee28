"""The real Spack describes the packages of a graph as the recipe needs it (Spack 1.1.0)."""

import hashlib
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from real_spack import Spack

from slurm_factory import resources
from slurm_factory.recipes.spack.lock import read_lock
from slurm_factory.recipes.spack.packages import MARK, SCRIPT, PackageDescription, parse

pytestmark = pytest.mark.spack

COMMIT = "51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf"
RECIPE = """\
from spack_repo.toy.packages.toybare.package import Toybare
from spack.package import *

class Toymain(Toybare):
    has_code = True
    url = "https://toys.example/v1.0/toymain.txz"
    git = "https://git.example/toys/toymain.git"
    version("1.0", sha256="{archive}")
    version("0.9", commit="{commit}")
    resource(name="data", url="https://toys.example/data.zip", sha256="{resource}", when="@1.0")
    patch("https://toys.example/mend.patch?full_index=1", sha256="{patch}", when="@1.0")
    patch("own.patch", when="@1.0")
    license("MIT", when="@1.0")
    license("GPL-2.0-only", when="@:0")
    depends_on("toybare")
"""
BARE = """\
from spack_repo.builtin.build_systems.generic import Package
from spack.package import *

class Toybare(Package):
    homepage = "https://toys.example/"
    has_code = False
    version("1.0")

    def install(self, spec, prefix):
        mkdirp(prefix.lib)
"""
ENVIRONMENT = """\
spack:
  specs: ["toymain@={version}"]
  view: false
  concretizer: {{unify: true, reuse: false}}
  repos::
    toy: {here}/spack_repo/toy
    builtin: {builtin}
  mirrors::
    sources: {{url: "file://{here}/sources", source: true, binary: false}}
  config:
    install_tree: {{root: {here}/store}}
    build_stage: {here}/stage
    source_cache: {here}/sources
    misc_cache: {misc}
    locks: false
"""
DIGESTS = {
    name: hashlib.sha256(name.encode()).hexdigest() for name in ("archive", "resource", "patch")
}


class Toys:
    """A package with every kind of source, in a project."""

    def __init__(self, spack: Spack, here: Path) -> None:
        self.spack, self.here = spack, here
        self.project = here / "project"
        self.project.mkdir()
        main = here / "spack_repo/toy/packages/toymain"
        bare = here / "spack_repo/toy/packages/toybare"
        for folder in (main, bare):
            folder.mkdir(parents=True)
        (here / "spack_repo/toy/repo.yaml").write_text("repo: {namespace: toy, api: v2.2}\n")
        (main / "package.py").write_text(RECIPE.format(commit=COMMIT, **DIGESTS))
        (main / "own.patch").write_text("--- a/data\n+++ b/data\n")
        (bare / "package.py").write_text(BARE)
        shutil.copy(resources.host_script(SCRIPT), here / SCRIPT)

    def run(self, *arguments: str) -> list[str]:
        return self.spack.run(self.project, *arguments)

    def describe(self, version: str) -> tuple[PackageDescription, PackageDescription]:
        """The package with every kind of source in one version, and the one without code."""
        text = ENVIRONMENT.format(
            here=self.here,
            version=version,
            builtin=self.spack.builtin,
            misc=self.spack.cache / "misc",
        )
        (self.project / "spack.yaml").write_text(text)
        said = self.run("concretize", "--force")
        lock = self.project / "spack.lock"
        assert lock.exists(), said
        said = self.run("python", str(self.here / SCRIPT))
        found = [parse(line) for line in said if line.startswith(MARK)]
        packages = read_lock(lock.read_text()).packages
        assert {each.hash for each in found} == {node.hash for node in packages}, said
        by_name = {each.name: each for each in found}
        return by_name["toymain"], by_name["toybare"]


@pytest.fixture
def toys(spack: Spack, tmp_path: Path) -> Toys:
    return Toys(spack, tmp_path)


def test_archive_resources_and_patches_are_reported_with_the_names_of_a_source_mirror(
    toys: Toys,
) -> None:
    archive, resource, patch = toys.describe("1.0")[0].sources
    expected = {
        "archive": (archive, ".txz", "https://toys.example/v1.0/toymain.txz"),
        "resource": (resource, ".zip", "https://toys.example/data.zip"),
        "patch": (patch, "", "https://toys.example/mend.patch?full_index=1"),
    }
    for name, (found, ending, url) in expected.items():
        digest = DIGESTS[name]
        below = PurePosixPath("_source-cache/archive", digest[:2], f"{digest}{ending}")
        assert found.label == "toymain 1.0"
        assert found.stored_as == below
        assert found.source is not None
        assert found.source.stored_as == below
        assert found.source.urls == (url, f"https://mirror.spack.io/{below}")


def test_licenses_are_those_of_the_version_and_what_is_inherited_counts(toys: Toys) -> None:
    main, bare = toys.describe("1.0")
    assert (main.licenses, main.homepage) == (("MIT",), "https://toys.example/")
    assert (bare.licenses, bare.homepage) == ((), "https://toys.example/")
    assert bare.sources == ()


def test_a_commit_of_a_repository_is_reported_with_the_place_that_spack_takes_its_archive_from(
    toys: Toys,
) -> None:
    main, _ = toys.describe("0.9")
    (found,) = main.sources
    assert main.licenses == ("GPL-2.0-only",)
    assert found.source is None
    place = PurePosixPath("_source-cache/git/toys/toymain.git") / f"{COMMIT}.tar.gz"
    assert found.stored_as == place
    cache = toys.here / "sources"
    assert found.find(cache) is None
    (cache / place).parent.mkdir(parents=True)
    tree = toys.here / "toymain"
    tree.mkdir()
    (tree / "data").write_text("data")
    subprocess.run(["tar", "-czf", cache / place, "-C", toys.here, "toymain"], check=True)
    assert found.find(cache) == cache / place
    said = toys.run("fetch", f"/{found.hash}")
    used = [line for line in said if "Using cached archive" in line]
    assert [line for line in used if place.name in line], said
