"""Libraries and licenses of a Spack build: from its own prefixes first, from the base if
configured."""

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from spack_samples import LZ4, MUNGE, StandIn, stand_in

from slurm_factory.fetch.sources import Source
from slurm_factory.package.built import Package
from slurm_factory.recipes.spack.libraries import SpackLibraries, installed_packages
from slurm_factory.recipes.spack.licenses import LicenseFinder
from slurm_factory.recipes.spack.packages import PackageDescription, PackageSource
from slurm_factory.recipes.spack.tree import Collected, RunTimePackage
from slurm_factory.relocate.policy import load_policy

DPKG = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no dpkg on this machine")
GCC = pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler on this machine")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[StandIn]:
    with stand_in(tmp_path) as here:
        yield here


def shared_library(path: Path, *, soname: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text("int answer(void) { return 42; }")
    option = [f"-Wl,-soname,{soname}"] if soname else []
    subprocess.run(["gcc", "-shared", "-fPIC", "-g", *option, "-o", path, source], check=True)
    source.unlink()
    return path


def libraries(here: StandIn, *packages: RunTimePackage) -> SpackLibraries:
    return SpackLibraries(here.spack, packages)


def lz4(here: StandIn) -> RunTimePackage:
    return RunTimePackage("lz4", "1.10.0", LZ4, f"{here.folder}/store/lz4", False, (LICENSE,))


def pmix(here: StandIn) -> RunTimePackage:
    return RunTimePackage("pmix", "5.0", MUNGE, f"{here.folder}/store/pmix", False, (LICENSE,))


LICENSE = Path("/srv/license")
OF_BASE = RunTimePackage("zlib", "1.2.13", "z" * 32, "/usr", external=True)


# --- libraries ----------------------------------------------------------------------------------


@GCC
def test_a_library_of_spacks_own_is_taken_stripped_with_hash_and_license(here: StandIn) -> None:
    lib = here.folder / "store/lz4/lib"
    real = shared_library(lib / "liblz4.so.1.10.0", soname="liblz4.so.1")
    (lib / "liblz4.so.1").symlink_to(real.name)
    source = libraries(here, lz4(here))
    found = source.fetch(["liblz4.so.1", "libno-such-thing.so.7"])
    assert [*found] == ["liblz4.so.1"]
    library = found["liblz4.so.1"]
    assert (library.package, library.version) == ("lz4", "1.10.0")
    assert library.origin == PurePosixPath(real)
    assert not library.path.is_symlink()
    assert library.path.stat().st_size < real.stat().st_size
    assert library.licenses == (LICENSE,)
    package = Package("lz4", "1.10.0", "x86_64_v2", "lz4", kind="generic", spack_hash=LZ4)
    assert source.packages == {"lz4": package}


@GCC
def test_a_package_made_from_a_commit_has_the_version_that_advisories_know(
    here: StandIn,
) -> None:
    shared_library(here.folder / "store/pmix/lib/libpmix.so.2")
    version = f"git.{'7' * 40}=5.0.5"
    made = RunTimePackage("pmix", version, MUNGE, f"{here.folder}/store/pmix", False)
    assert libraries(here, made).fetch(["libpmix.so.2"])["libpmix.so.2"].version == "5.0.5"


@DPKG
def test_a_library_of_the_base_that_no_external_explains_is_not_taken(here: StandIn) -> None:
    assert libraries(here, lz4(here)).fetch(["libz.so.1"]) == {}


@DPKG
def test_a_library_of_the_base_is_taken_where_the_user_made_it_an_external(
    here: StandIn,
) -> None:
    source = libraries(here, lz4(here), OF_BASE)
    found = source.fetch(["libz.so.1"])
    assert found["libz.so.1"].package == "zlib1g"
    assert source.packages["zlib1g"].kind == "deb"


@DPKG
def test_an_external_explains_only_what_is_below_its_prefix(here: StandIn) -> None:
    elsewhere = RunTimePackage("zlib", "1.2.13", "z" * 32, "/opt/vendor", external=True)
    assert libraries(here, lz4(here), elsewhere).fetch(["libz.so.1"]) == {}


@GCC
def test_spacks_own_library_comes_before_that_of_the_base(here: StandIn) -> None:
    shared_library(here.folder / "store/lz4/lib/libz.so.1")
    found = libraries(here, lz4(here), OF_BASE).fetch(["libz.so.1"])
    assert found["libz.so.1"].package == "lz4"


@GCC
def test_plugin_directories_of_the_policy_are_found_below_spacks_prefixes(here: StandIn) -> None:
    shared_library(here.folder / "store/pmix/lib/pmix/pmix_mca_x.so")
    (here.folder / "store/pmix/lib/pmix/pmix_mca_x.la").touch()
    rule = next(rule for rule in load_policy().directories if rule.id == "pmix-components")
    source = libraries(here, lz4(here), pmix(here))
    found = source.fetch_directory(rule.sources)
    assert found is not None
    assert (found.package, found.version) == ("pmix", "5.0")
    assert [path.name for path in found.path.iterdir()] == ["pmix_mca_x.so"]
    assert {*source.packages} == {"pmix"}
    assert source.fetch_directory(["/usr/lib/no-such-*/thing"]) is None


def test_every_plugin_directory_of_the_policy_can_lie_in_a_prefix_of_spack() -> None:
    layouts = {
        "pmix-components": "/usr/lib/pmix",
        "pmix-messages": "/usr/share/pmix",
        "mariadb-plugins": "/usr/lib/mariadb/plugin",
    }
    assert {rule.id for rule in load_policy().directories} == {*layouts}
    for rule in load_policy().directories:
        assert layouts[rule.id] in rule.sources


@DPKG
def test_plugins_of_the_base_without_their_library_stay_there(here: StandIn) -> None:
    source = libraries(here, lz4(here), OF_BASE)
    assert source.fetch_directory(["/usr/share/doc/zlib1g"]) is None
    source.fetch(["libz.so.1"])
    found = source.fetch_directory(["/usr/share/doc/zlib1g"])
    assert found is not None
    assert found.package == "zlib1g"


def test_programs_of_other_packages_in_the_tree_are_listed_and_scripts_are_not(
    here: StandIn,
) -> None:
    tree = here.spack.work / "software"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/bin/true", tree / "bin/lz4")
    (tree / "bin/lz4cat").write_text("#!/bin/sh\n")
    owners = {PurePosixPath("bin", name): "lz4" for name in ("lz4", "lz4cat", "gone")}
    collected = Collected(tree, (lz4(here),), owners, configure=())
    installed = installed_packages(here.spack, collected)
    assert {str(path): package.name for path, package in installed.items()} == {"bin/lz4": "lz4"}


# --- licenses -----------------------------------------------------------------------------------


def archive(cache: Path, files: dict[str, str], mode: str = "w:gz") -> PackageSource:
    """Put a source archive into a mirror in Spack's layout."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as tar:  # type: ignore[call-overload]
        for name, text in files.items():
            about = tarfile.TarInfo(f"lz4-1.10.0/{name}")
            about.size = len(text)
            tar.addfile(about, io.BytesIO(text.encode()))
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    source = Source("lz4 1.10.0", digest, None, (), ".tar.gz")
    path = cache / source.stored_as
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return PackageSource(LZ4, source.name, source.stored_as, source)


@pytest.fixture
def finder(tmp_path: Path) -> LicenseFinder:
    return LicenseFinder(tmp_path / "sources", tmp_path / "saved")


def described(*sources: PackageSource, name: str = "lz4") -> PackageDescription:
    return PackageDescription(
        LZ4, name, "1.10.0", ("BSD-2-Clause", "MIT"), "https://lz4.example/", sources
    )


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_license_is_found_in_the_source_whatever_the_archive_really_is(
    finder: LicenseFinder, mode: str
) -> None:
    files = {
        "LICENSE": "the lz4 license",
        "LICENSES/BSD.txt": "the BSD text",
        "lib/LICENSE": "of a part",
        "src/lz4.c": "code",
        "README": "read me",
    }
    text = finder.text(described(archive(finder.source_cache, files, mode)), [])
    assert "==> LICENSE <==\n\nthe lz4 license" in text
    assert "the BSD text" in text
    assert "of a part" not in text
    assert "read me" not in text


def test_a_text_that_was_found_is_there_when_the_source_has_gone(finder: LicenseFinder) -> None:
    package = described(archive(finder.source_cache, {"COPYING": "copy it"}))
    before = finder.text(package, [])
    shutil.rmtree(finder.source_cache)
    assert "copy it" in before
    assert finder.text(package, []) == before


def test_two_builds_that_find_the_same_license_at_the_same_time_both_succeed(
    finder: LicenseFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = archive(finder.source_cache, {"COPYING": "copy it"})
    replacing = Path.replace
    others: list[str] = []

    def replace_after_the_other(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replacing)
        others.append(finder.text(described(source), []))
        return replacing(path, target)

    monkeypatch.setattr(Path, "replace", replace_after_the_other)
    assert [finder.text(described(source), [])] == others
    assert source.source
    assert [path.name for path in finder.saved.iterdir()] == [f"{source.source.sha256}.txt"]


def test_without_a_source_the_license_by_spack_is_named_and_the_lack_of_text_stated(
    finder: LicenseFinder,
) -> None:
    gone = archive(finder.source_cache, {"COPYING": "copy it"})
    (finder.source_cache / gone.stored_as).unlink()
    for package in (described(gone), described()):
        text = finder.text(package, [])
        assert "License by Spack's package recipe: BSD-2-Clause and MIT" in text
        assert "https://lz4.example/" in text
        assert "was not in a source archive" in text


@pytest.mark.parametrize("size", [20, 0])
def test_a_damaged_archive_is_not_an_error(finder: LicenseFinder, size: int) -> None:
    source = archive(finder.source_cache, {"COPYING": "copy it"})
    path = finder.source_cache / source.stored_as
    path.write_bytes(path.read_bytes()[:size])
    assert "BSD-2-Clause" in finder.text(described(source), [])


def test_a_resource_or_a_patch_does_not_stand_in_for_the_archive(finder: LicenseFinder) -> None:
    archived = archive(finder.source_cache, {"README": "read me"})
    resource = archive(finder.source_cache, {"LICENSE": "of a resource"})
    assert "BSD-2-Clause" in finder.text(described(archived, resource), [])


def test_what_a_package_installs_itself_comes_before_its_source(
    finder: LicenseFinder, tmp_path: Path
) -> None:
    (tmp_path / "COPYING").write_text("as installed")
    package = described(archive(finder.source_cache, {"COPYING": "in the source"}))
    text = finder.text(package, [tmp_path / "COPYING"])
    assert "as installed" in text
    assert "in the source" not in text


def test_the_license_of_a_commit_is_found_in_the_archive_of_that_commit(
    finder: LicenseFinder,
) -> None:
    made = archive(finder.source_cache, {"LICENSE": "of the commit"})
    stored_as = PurePosixPath(f"_source-cache/git/owner/lz4.git/{'1' * 40}.tar.gz")
    place = finder.source_cache / stored_as
    place.parent.mkdir(parents=True)
    (finder.source_cache / made.stored_as).rename(place)
    package = described(PackageSource(LZ4, "lz4 1.10.0", stored_as, None))
    assert "of the commit" in finder.text(package, [])


def test_lua_whose_license_stands_in_a_header_has_one(finder: LicenseFinder) -> None:
    source = archive(finder.source_cache, {"src/lua.h": "Copyright PUC-Rio", "src/x.h": "y"})
    text = finder.text(described(source, name="lua"), [])
    assert "Copyright PUC-Rio" in text
