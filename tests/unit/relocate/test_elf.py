"""Facts about real ELF files, and about files that only look like ELF."""

import os
import platform
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from struct import pack

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from relocate_toolkit import answer, compile_elf, make_common

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.elf import ElfKind, VersionNeed, read_elf, scan
from slurm_factory.relocate.hardening import Hardening, Relro


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


# --- hardening ----------------------------------------------------------------------------------

NOTHING = "int main(void) { return 0; }"
COPIES = """
#include <string.h>
int copied(const char *text) { char copy[64]; strcpy(copy, text); return copy[strlen(text) / 2]; }
int main(int count, char **words) { return copied(words[0]); }
"""
HARDENED = (
    *("-O2", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"),
    "-Wl,-z,relro,-z,now,-z,noexecstack",
)
EXPOSED = (
    *("-O2", "-fno-stack-protector", "-U_FORTIFY_SOURCE"),
    "-Wl,-z,norelro,-z,lazy,-z,execstack",
)
PIE = ("-fPIE", "-pie")
NO_PIE = ("-fno-pie", "-no-pie")
NOW = ("-Wl,-z,relro,-z,now",)
LAZY = ("-Wl,-z,relro,-z,lazy",)
OTHER_TAG = pack("=QQ", 21, 0)
"""DT_DEBUG, in place of a flag."""
GNU_STACK = pack("=I", 0x6474E551)
X86_FEATURES = pack("=II", 0xC0000002, 4)
AARCH64_FEATURES = pack("=II", 0xC0000000, 4)
AARCH64 = pack("=H", 183)
MACHINE = 18
"""Offset of e_machine in an ELF file."""

only_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of that compiler")


def hardening(path: Path) -> Hardening:
    facts = read_elf(path)
    assert facts is not None
    return facts.hardening


def compiled(path: Path, *options: str, code: str = NOTHING) -> Hardening:
    return hardening(compile_elf(path, code, options=options))


@pytest.mark.parametrize(
    ("name", "options", "pie"),
    [
        ("tool", (*HARDENED, *PIE), True),
        ("tool", (*EXPOSED, *NO_PIE), False),
        ("libtool.so", HARDENED, None),
        ("libtool.so", EXPOSED, None),
    ],
)
def test_options_of_compiler_and_linker_are_seen(
    tmp_path: Path, name: str, options: tuple[str, ...], pie: bool | None
) -> None:
    found = compiled(tmp_path / name, *options, code=COPIES)
    on = HARDENED[1] in options
    assert found.relro is (Relro.FULL if on else Relro.NONE)
    assert found.pie is pie
    assert (found.canary, found.fortify, found.executable_stack) == (on, on, not on)


def test_binding_at_the_first_call_is_partial_relro(tmp_path: Path) -> None:
    assert compiled(tmp_path / "libx.so", *LAZY, "-Wl,-z,nodelete").relro is Relro.PARTIAL
    assert compiled(tmp_path / "x", *LAZY, "-pie").relro is Relro.PARTIAL


@pytest.mark.parametrize(
    ("option", "removed"),
    [
        ("-Wl,--enable-new-dtags", pack("=QQ", 0x6FFFFFFB, 1)),  # leaves DT_FLAGS
        ("-Wl,--enable-new-dtags", pack("=QQ", 0x1E, 8)),  # leaves DT_FLAGS_1
        ("-Wl,--disable-new-dtags", pack("=QQ", 0x6FFFFFFB, 1)),  # leaves DT_BIND_NOW
    ],
)
def test_each_way_to_bind_at_once_is_full_relro(
    tmp_path: Path, option: str, removed: bytes
) -> None:
    path = compile_elf(tmp_path / "libx.so", NOTHING, options=[option, *NOW])
    content = path.read_bytes()
    assert content.count(removed) == 1
    path.write_bytes(content.replace(removed, OTHER_TAG))
    assert hardening(path).relro is Relro.FULL


def test_binding_at_once_without_relro_protects_nothing(tmp_path: Path) -> None:
    assert compiled(tmp_path / "libx.so", "-Wl,-z,norelro,-z,now").relro is Relro.NONE


@pytest.mark.parametrize(("option", "pie"), [("-static", False), ("-static-pie", True)])
def test_statically_linked_program_shows_only_what_needs_no_imports(
    tmp_path: Path, option: str, pie: bool
) -> None:
    facts = read_elf(compile_elf(tmp_path / "x", COPIES, options=[*HARDENED, option]))
    assert facts is not None
    assert facts.kind is ElfKind.EXECUTABLE
    assert facts.hardening.pie is pie
    assert (facts.hardening.canary, facts.hardening.fortify) == (None, None)


def test_canary_in_a_variable_counts(tmp_path: Path) -> None:
    code = "extern long __stack_chk_guard; long f(void) { return __stack_chk_guard; }"
    assert compiled(tmp_path / "libx.so", "-fno-stack-protector", code=code).canary is True


def test_file_without_checkable_functions_says_nothing_about_fortify(tmp_path: Path) -> None:
    assert compiled(tmp_path / "x", *HARDENED).fortify is None
    assert compiled(tmp_path / "libx.so", *HARDENED).fortify is None


def test_function_that_a_library_defines_is_not_imported(tmp_path: Path) -> None:
    code = "void __stack_chk_fail(void) {} void __strcpy_chk(void) {} void strcpy(void) {}"
    found = compiled(tmp_path / "libx.so", "-fno-builtin", "-fno-stack-protector", code=code)
    assert (found.canary, found.fortify) == (False, None)


@only_x86_64
def test_imports_of_32_bit_files_are_read(tmp_path: Path) -> None:
    code = "void *memcpy(void *, const void *, unsigned); void f(char *a) { memcpy(a, a + 9, 9); }"
    options = ["-m32", "-nostdlib", "-fno-builtin", "-fno-stack-protector"]
    found = compiled(tmp_path / "libx.so", *options, code=code)
    assert (found.canary, found.fortify, found.control_flow) == (False, False, None)


def test_file_that_does_not_forbid_an_executable_stack_gets_one(tmp_path: Path) -> None:
    path = compile_elf(tmp_path / "libx.so", NOTHING, options=HARDENED)
    assert not hardening(path).executable_stack
    path.write_bytes(path.read_bytes().replace(GNU_STACK, bytes(len(GNU_STACK)), 1))
    assert hardening(path).executable_stack


@only_x86_64
@pytest.mark.parametrize("name", ["x", "libx.so"])
@pytest.mark.parametrize(
    ("options", "protected"),
    [(("-Wl,-z,ibt,-z,shstk",), True), (("-Wl,-z,ibt",), False), ((), False)],
)
def test_control_flow_is_protected_by_both_features(
    tmp_path: Path, name: str, options: tuple[str, ...], protected: bool
) -> None:
    found = compiled(tmp_path / name, "-fcf-protection=none", *options)
    assert found.control_flow is protected


@only_x86_64
@pytest.mark.parametrize(("features", "protected"), [(3, True), (1, False), (2, False)])
def test_control_flow_of_aarch64_has_its_own_note(
    tmp_path: Path, features: int, protected: bool
) -> None:
    path = compile_elf(tmp_path / "libx.so", NOTHING, options=["-Wl,-z,ibt,-z,shstk"])
    content = path.read_bytes()
    old, new = X86_FEATURES + pack("=I", 3), AARCH64_FEATURES + pack("=I", features)
    assert old in content
    content = content[:MACHINE] + AARCH64 + content[MACHINE + len(AARCH64) :]
    path.write_bytes(content)
    assert hardening(path).control_flow is False
    path.write_bytes(content.replace(old, new))
    assert hardening(path).control_flow is protected


def test_cut_symbol_table_is_reported_and_not_half_read(tmp_path: Path, library: Path) -> None:
    damaged = Path(shutil.copy(library, tmp_path / "damaged.so"))
    with damaged.open("r+b") as file:
        elf = ELFFile(file)
        header = elf["e_shoff"] + elf.get_section_index(".dynsym") * elf["e_shentsize"]
        for field in (32, 56):  # sh_size, sh_entsize
            file.seek(header + field)
            file.write(pack("=Q", 25))
    with pytest.raises(VerificationError, match=r"damaged\.so cannot be read as ELF"):
        read_elf(damaged)


# --- files of somebody hostile ------------------------------------------------------------------


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_file_is_read_or_refused(library: Path, data: st.DataObject) -> None:
    whole = library.read_bytes()
    content = bytearray(whole)
    headers = st.one_of(st.integers(0, 900), st.integers(len(whole) - 2500, len(whole) - 1))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(headers)] = data.draw(st.sampled_from((0, 1, 127, 128, 255)))
    damaged = library.with_name("damaged")
    damaged.write_bytes(content[: data.draw(st.integers(0, len(whole)))])
    with suppress(VerificationError):
        read_elf(damaged)


def section_header(path: Path, name: str) -> tuple[int, int]:
    """Offsets of the header of a section, and of its content."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        index = elf.get_section_index(name)
        assert isinstance(index, int)
        header = elf["e_shoff"] + index * elf["e_shentsize"]
        return header, elf.get_section(index)["sh_offset"]


def assert_entries_do_not_fit(changed: Path, content: bytearray) -> None:
    """Reading a file with this content is refused for what it claims to have."""
    changed.write_bytes(content)
    with pytest.raises(VerificationError, match="cannot be read as ELF") as caught:
        read_elf(changed)
    assert "entries do not fit into it" in caught.value.details


@pytest.mark.parametrize("table", [".gnu.version_r", ".gnu.version_d"])
@pytest.mark.parametrize("field", ["sh_info", "count"])
def test_table_that_claims_billions_of_entries_is_refused_at_once(
    library: Path, tmp_path: Path, table: str, field: str
) -> None:
    source = library if table == ".gnu.version_r" else library.parent / "libcommon.so.1"
    content = bytearray(source.read_bytes())
    header, start = section_header(source, table)
    if field == "sh_info":
        # Elf64_Shdr: sh_info is at 44.
        content[header + 44 : header + 48] = b"\xff" * 4
    else:
        # Elf64_Verneed has vn_cnt at 2, Elf64_Verdef vd_cnt at 6.
        place = start + (2 if table == ".gnu.version_r" else 6)
        content[place : place + 2] = b"\xff" * 2
    assert_entries_do_not_fit(tmp_path / "changed", content)


def test_table_that_claims_to_be_larger_than_the_file_is_refused(
    library: Path, tmp_path: Path
) -> None:
    content = bytearray(library.read_bytes())
    header, _ = section_header(library, ".gnu.version_r")
    # Elf64_Shdr: sh_size is at 32, sh_info at 44.
    content[header + 32 : header + 40] = pack("<Q", 1 << 40)
    content[header + 44 : header + 48] = b"\xff" * 4
    assert_entries_do_not_fit(tmp_path / "changed", content)


def test_file_that_claims_more_sections_than_fit_into_it_is_refused(
    library: Path, tmp_path: Path
) -> None:
    content = bytearray(library.read_bytes())
    with library.open("rb") as file:
        start = ELFFile(file)["e_shoff"]
    # With e_shnum 0, sh_size of the first section is the number (elf(5)).
    content[60:62] = b"\0\0"
    content[start + 32 : start + 40] = pack("<Q", 1 << 40)
    assert_entries_do_not_fit(tmp_path / "changed", content)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="writes headers of x86-64")
@pytest.mark.parametrize("name", [".dynsym", ".gnu.version", ".rela.dyn"])
def test_compressed_table_is_refused(tmp_path: Path, name: str) -> None:
    """No loader reads one, and a small one may be endless."""
    code = "extern char **environ; int main(void) { return environ == 0; }"
    program = compile_elf(tmp_path / "program", code)
    with program.open("r+b") as stream:
        elf = ELFFile(stream)
        number = next(n for n, section in enumerate(elf.iter_sections()) if section.name == name)
        # sh_flags of Elf64_Shdr (elf(5)); SHF_COMPRESSED.
        stream.seek(elf["e_shoff"] + number * elf["e_shentsize"] + 8)
        stream.write(pack("<Q", 0x802))
    with pytest.raises(VerificationError):
        read_elf(program)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="writes headers of x86-64")
def test_many_headers_of_one_table_are_read_once(tmp_path: Path) -> None:
    """Otherwise this takes an hour."""
    program = compile_elf(tmp_path / "program", "int main(void) { return 0; }")
    content = program.read_bytes()
    with program.open("rb") as stream:
        elf = ELFFile(stream)
        header = 64
        number = next(
            n for n, section in enumerate(elf.iter_sections()) if section.name == ".rela.dyn"
        )
        at = elf["e_shoff"] + number * header
        rows = content[elf["e_shoff"] : elf["e_shoff"] + elf["e_shnum"] * header]
    count = 20_000
    whole = (len(content) + len(rows) + count * header) // 24 * 24
    # sh_offset and sh_size of Elf64_Shdr: all of the file.
    rows += (content[at : at + 24] + pack("<QQ", 0, whole) + content[at + 40 : at + header]) * count
    # e_shoff, and e_shnum, of Elf64_Ehdr.
    moved = content[:40] + pack("<Q", len(content)) + content[48:60] + pack("<H", 0) + content[62:]
    # Without a number in the header it is in the first entry.
    first = rows[:32] + pack("<Q", len(rows) // header) + rows[40:]
    program.write_bytes(moved + first)
    assert read_elf(program) is not None
