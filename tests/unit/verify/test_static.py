"""Each check of a package's files finds what it is about, and none of the others blames it."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from package_samples import IDENTITY, ZLIB
from relocate_toolkit import compile_elf
from verify_samples import BAKED, RELOCATABLE, make_tree, pack_package

from slurm_factory.package.modules import write_modules
from slurm_factory.verify.package import Package
from slurm_factory.verify.static import look

CHECKED = {"signature", "provenance", "lua", "tcl", "cpu"}
"""Checks that may be left out: nothing is signed or says where it comes from, or the machine lacks
an interpreter."""

Spoil = Callable[[Path], object]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "made")


def failures(package: Package, scratch: Path) -> dict[str, str]:
    scratch.mkdir()
    report = look(package, scratch)
    return {check.name: check.detail for check in report.checks if check.result == "failed"}


def test_good_package_passes_everything_that_can_be_checked_here(
    tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    report = look(pack_package(tree, tmp_path / "packed"), tmp_path / "scratch")
    assert [c for c in report.checks if c.result == "failed"] == []
    assert {c.name for c in report.checks if c.result == "skipped"} <= CHECKED
    assert "Debian 13" in report.distributions


def absolute_run_path(tree: Path) -> None:
    options = ["-Wl,--disable-new-dtags,-rpath,/usr/lib"]
    compile_elf(tree / "lib/slurm/libslurmfull.so", RELOCATABLE, options=options)


def missing_library(tree: Path) -> None:
    other = compile_elf(tree.parent / "libmissing.so", "int missing(void) { return 1; }")
    compile_elf(tree / "lib/slurm/more.so", "int more(void) { return 1; }", (other,))


def plugin_that_keeps_its_sources(tree: Path) -> None:
    compile_elf(tree / "lib/slurm/more.so", 'const char *at = "/srv/build/etc/table.dat";')


def message_about_a_source(tree: Path) -> None:
    compile_elf(tree / "lib/slurm/more.so", 'const char *at = "/srv/build/src/table.c";')


def function_of_nobody(tree: Path) -> None:
    compile_elf(tree / "lib/slurm/more.so", "int nobody(void); int m(void) { return nobody(); }")


def other_identity(tree: Path) -> None:
    other = IDENTITY.model_copy(update={"release": "24.11.6"})
    text = json.dumps(other.model_dump(mode="json"))
    (tree / "share/slurm-factory.json").write_text(text)


SPOILS: dict[str, tuple[Spoil, str]] = {
    "run-paths": (absolute_run_path, "run path /usr/lib points outside the tree"),
    "closure": (missing_library, "needs libmissing.so, which its run path does not find"),
    "glibc": (function_of_nobody, "imports nobody, which nothing defines"),
    "build-paths": (plugin_that_keeps_its_sources, "/srv/build/etc/table.dat"),
    "links": (lambda tree: (tree / "lib/gone.so").symlink_to("nowhere"), "does not exist"),
    "identity": (other_identity, "describe different packages"),
    "prefix": (
        lambda tree: compile_elf(tree / "lib/slurm/libslurmfull.so", BAKED),
        "/opt/elsewhere/software/lib/slurm only",
    ),
}


@pytest.mark.parametrize("name", SPOILS)
def test_check_finds_what_it_is_about(tree: Path, tmp_path: Path, name: str) -> None:
    spoil, said = SPOILS[name]
    spoil(tree)
    found = failures(pack_package(tree, tmp_path / "packed"), tmp_path / "scratch")
    assert [*found] == [name]
    assert said in found[name]


def test_source_files_may_be_named_in_messages(tree: Path, tmp_path: Path) -> None:
    message_about_a_source(tree)
    assert failures(pack_package(tree, tmp_path / "packed"), tmp_path / "scratch") == {}


def test_flipped_byte_of_a_tarball_is_found(tree: Path, tmp_path: Path) -> None:
    package = pack_package(tree, tmp_path / "packed")
    content = bytearray(package.software.read_bytes())
    content[len(content) // 2] ^= 1
    package.software.write_bytes(content)
    found = failures(package, tmp_path / "scratch")
    assert "does not match the manifest" in found["checksums"]


def test_swapped_library_is_found_even_if_all_checksums_fit(tree: Path, tmp_path: Path) -> None:
    package = pack_package(tree, tmp_path / "packed")
    compile_elf(tree / ZLIB.file, "int zlib(void) { return 2; }")
    swapped = pack_package(tree, tmp_path / "swapped")
    found = failures(replace(swapped, manifest=package.manifest), tmp_path / "scratch")
    assert found["bundled"] == f"{ZLIB.file} is not that of zlib1g 1:1.2.13.dfsg-1"


def test_plugin_that_the_manifest_promises_is_missed(tree: Path, tmp_path: Path) -> None:
    package = pack_package(tree, tmp_path / "packed")
    assert package.manifest
    promised = package.manifest.model_copy(update={"features": ("lua",)})
    found = failures(replace(package, manifest=promised), tmp_path / "scratch")
    assert found["features"] == "lib/slurm/job_submit_lua.so of the feature lua is missing"


def test_manifest_that_promises_an_older_glibc_is_found(tree: Path, tmp_path: Path) -> None:
    package = pack_package(tree, tmp_path / "packed")
    assert package.manifest
    promised = package.manifest.model_copy(update={"glibc": "2.1"})
    found = failures(replace(package, manifest=promised), tmp_path / "scratch")
    assert found["floor"].endswith("the manifest says 2.1")


@pytest.mark.parametrize(
    ("member", "option", "said"),
    [
        ("setuid", "--mode=4755", "is setuid"),
        ("second-top", "", "has to contain one directory"),
    ],
)
def test_archive_that_nobody_should_unpack_ends_the_checks(
    tree: Path, tmp_path: Path, member: str, option: str, said: str
) -> None:
    package = pack_package(tree, tmp_path / "packed")
    (tree.parent / "second-top").mkdir()
    (tree / "setuid").write_text("")
    members = ["software"] if member == "setuid" else ["software", "second-top"]
    options = [option] if option else []
    command = ["tar", "-czf", str(package.software), "-C", str(tree.parent), *options, *members]
    subprocess.run(command, check=True)
    found = failures(replace(package, manifest=None), tmp_path / "scratch")
    assert [*found] == ["archive"]
    assert said in found["archive"]


@pytest.mark.parametrize(
    ("check", "file", "text"),
    [
        ("lua", f"modules/{IDENTITY.module}.lua", "help([[ never ends"),
        ("tcl", f"modulefiles/{IDENTITY.module}", "proc ModulesHelp {} {"),
    ],
)
def test_module_file_that_does_not_parse_is_found(
    tree: Path, tmp_path: Path, check: str, file: str, text: str
) -> None:
    modules = tmp_path / "modules"
    write_modules(IDENTITY, modules)
    (modules / file).write_text(text)
    package = pack_package(tree, tmp_path / "packed", modules)
    (tmp_path / "scratch").mkdir()
    results = {c.name: c.result for c in look(package, tmp_path / "scratch").checks}
    if results[check] == "skipped":
        pytest.skip("there is no interpreter here")
    assert results[check] == "failed"


def test_module_file_is_read_and_never_run(tree: Path, tmp_path: Path) -> None:
    modules, mark = tmp_path / "modules", tmp_path / "mark"
    write_modules(IDENTITY, modules)
    (modules / f"modules/{IDENTITY.module}.lua").write_text(f'os.execute("touch {mark}")')
    (modules / f"modulefiles/{IDENTITY.module}").write_text(f"exec touch {mark}\n")
    assert failures(pack_package(tree, tmp_path / "packed", modules), tmp_path / "scratch") == {}
    assert not mark.exists()


def test_package_of_somebody_else_is_checked_as_far_as_it_says(tree: Path, tmp_path: Path) -> None:
    (tree / "share/slurm-factory.json").unlink()
    package = pack_package(tree, tmp_path / "packed")
    alone = Package("foreign", package.software)
    (tmp_path / "scratch").mkdir()
    results = {c.name: c.result for c in look(alone, tmp_path / "scratch").checks}
    skipped = {name for name, result in results.items() if result == "skipped"}
    assert skipped == {
        *(
            "checksums",
            "signature",
            "provenance",
            "identity",
            "features",
            "bundled",
            "cpu",
            "lua",
            "tcl",
        ),
    }
    assert "failed" not in results.values()
