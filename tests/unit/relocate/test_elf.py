"""Facts about real ELF files, and about files that only look like ELF."""

import os
import shutil
from pathlib import Path, PurePosixPath

import pytest
from relocate_toolkit import answer, compile_elf, make_common

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.elf import ElfKind, VersionNeed, read_elf, scan


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    common = make_common(folder, "x")
    code = """
    const char *common(void);
    const char *names[] = {"libfirst.so.1", "/usr/lib/libsecond.so", "see liberror.so", "lib.so"};
    const char *libuser(void) { return common(); }"""
    options = ["-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/a:/b"]
    return compile_elf(folder / "libuser.so.3", code, [common], options)


def test_library_is_described_as_the_loader_sees_it(library: Path) -> None:
    facts = read_elf(library)
    assert facts is not None
    assert (facts.kind, facts.soname, facts.interpreter) == (ElfKind.SHARED, "libuser.so.3", None)
    assert facts.needed[0] == "libcommon.so.1"
    assert (facts.run_path, facts.uses_runpath) == (("$ORIGIN/a", "/b"), False)
    assert VersionNeed("libcommon.so.1", ("COMMON_1",)) in facts.needs_versions


def test_names_of_libraries_are_found_among_constants_and_not_in_sentences(library: Path) -> None:
    facts = read_elf(library)
    assert facts is not None
    assert facts.mentions == {"libfirst.so.1", "libsecond.so"}


def test_defined_versions_are_read(library: Path) -> None:
    facts = read_elf(library.parent / "libcommon.so.1")
    assert facts is not None
    assert "COMMON_1" in facts.defines_versions


def test_runpath_is_distinguished_from_rpath(tmp_path: Path) -> None:
    options = ["-Wl,--enable-new-dtags", "-Wl,-rpath,/x"]
    facts = read_elf(compile_elf(tmp_path / "libx.so", answer("f", "x"), options=options))
    assert facts is not None
    assert (facts.run_path, facts.uses_runpath) == (("/x",), True)


@pytest.mark.parametrize("options", [(), ("-no-pie",), ("-static",)])
def test_programs_of_every_kind_are_executables(tmp_path: Path, options: tuple[str, ...]) -> None:
    facts = read_elf(compile_elf(tmp_path / "x", "int main(void) { return 0; }", options=options))
    assert facts is not None
    assert facts.kind is ElfKind.EXECUTABLE
    assert (facts.interpreter is None) == ("-static" in options)


def test_object_files_and_texts_are_not_elf_files_of_interest(tmp_path: Path) -> None:
    compile_elf(tmp_path / "x.o", "int f;", options=["-c"])
    (tmp_path / "text").write_text("#!/bin/sh\n", "utf-8")
    (tmp_path / "empty").touch()
    assert scan(tmp_path) == {}


def test_damaged_elf_file_is_reported_by_name_and_not_skipped(
    tmp_path: Path, library: Path
) -> None:
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(library.read_bytes()[:100])
    with pytest.raises(VerificationError, match=r"damaged\.so cannot be read as ELF"):
        scan(tmp_path)


@pytest.mark.parametrize("length", [4, 16, 40, 64, 700, 3000, 9000])
def test_truncated_elf_file_never_ends_in_a_traceback(
    tmp_path: Path, library: Path, length: int
) -> None:
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(library.read_bytes()[:length])
    with pytest.raises(VerificationError):
        read_elf(damaged)


def test_links_are_not_followed_and_hard_links_come_once(tmp_path: Path, library: Path) -> None:
    shutil.copy(library, tmp_path / "b.so")
    os.link(tmp_path / "b.so", tmp_path / "c.so")
    (tmp_path / "a.so").symlink_to("b.so")
    assert list(scan(tmp_path)) == [PurePosixPath("b.so")]
