"""Facts about ELF files; reads only, runs nothing."""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.constants import P_FLAGS
from elftools.elf.dynamic import DynamicSegment, DynamicTag
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_DT_FLAGS, ENUM_DT_FLAGS_1
from elftools.elf.gnuversions import (
    GNUVerDefSection,
    GNUVerNeedSection,
    Version,
    VersionAuxiliary,
)
from elftools.elf.sections import NoteSection, Section
from elftools.elf.segments import InterpSegment, Segment

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.hardening import Hardening, Relro
from slurm_factory.relocate.symbols import Symbols, read_symbols
from slurm_factory.relocate.tree import regular_files

MAGIC = b"\x7fELF"
UNREADABLE = (
    *(ELFError, ConstructError, AssertionError, AttributeError, ArithmeticError),
    *(LookupError, MemoryError, TypeError, ValueError, struct.error, zlib.error),
)
"""Errors of pyelftools for damaged files."""
SMALLEST_ENTRY = 8
"""Size in bytes: an entry of a version table (`Elf64_Verdaux`); headers are larger."""
LINKED_TYPES = frozenset({"ET_EXEC", "ET_DYN"})
LIBRARY_NAME = re.compile(rb"(?<![^\0/])(lib[\w.+-]+\.so(?:\.\d+)*)(?=\0)")
STACK_CANARY = frozenset({b"__stack_chk_fail", b"__stack_chk_guard"})
CHECKED = re.compile(rb"__\w+_chk")
CHECKABLE = frozenset(
    b"""
    asprintf confstr dprintf explicit_bzero fgets fgets_unlocked fgetws fgetws_unlocked fprintf
    fread fread_unlocked fwprintf getcwd getdomainname getgroups gethostname getlogin_r gets getwd
    inet_ntop inet_pton longjmp mbsnrtowcs mbsrtowcs mbstowcs memcpy memmove mempcpy memset
    obstack_printf obstack_vprintf poll ppoll pread pread64 printf ptsname_r read readlink
    readlinkat realpath recv recvfrom snprintf sprintf stpcpy stpncpy strcat strcpy strlcat strlcpy
    strncat strncpy swprintf syslog ttyname_r vasprintf vdprintf vfprintf vfwprintf vprintf
    vsnprintf vsprintf vswprintf vsyslog vwprintf wcpcpy wcpncpy wcrtomb wcscat wcscpy wcslcat
    wcslcpy wcsncat wcsncpy wcsnrtombs wcsrtombs wcstombs wctomb wmemcpy wmemmove wmempcpy wmemset
    wprintf
    """.split()
)
"""Functions of glibc with a checked variant, such as `__memcpy_chk`."""
BRANCH_FEATURES = {
    "EM_X86_64": "GNU_PROPERTY_X86_FEATURE_1_AND",
    "EM_AARCH64": "GNU_PROPERTY_AARCH64_FEATURE_1_AND",
}
MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_386": "i686"}
BOTH_FEATURES = 0b11
"""IBT and SHSTK of x86-64, BTI and PAC of aarch64."""


class ElfKind(StrEnum):
    """How the loader uses an ELF file."""

    EXECUTABLE = "executable"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class VersionNeed:
    """Symbol versions that a file requires from one library (an entry of `.gnu.version_r`)."""

    library: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ElfFacts:
    """One executable or shared object.

    `run_path` holds the entries of DT_RUNPATH if there is one (`uses_runpath`), else those of
    DT_RPATH, because ld.so ignores the latter then (ld.so(8)). `machine` is the architecture as
    uname(1) names it, where we know that. `mentions` are the names of
    libraries in its constants, which it may open with dlopen.
    """

    path: Path
    kind: ElfKind
    machine: str = ""
    soname: str | None = None
    needed: tuple[str, ...] = ()
    run_path: tuple[str, ...] = ()
    uses_runpath: bool = False
    interpreter: str | None = None
    needs_versions: tuple[VersionNeed, ...] = ()
    defines_versions: frozenset[str] = frozenset()
    mentions: frozenset[str] = frozenset()
    symbols: Symbols = field(default_factory=Symbols)
    hardening: Hardening = field(default_factory=Hardening)


FactsByPath: TypeAlias = dict[PurePosixPath, ElfFacts]
"""Facts by path relative to a tree."""


def read_elf(path: Path) -> ElfFacts | None:
    """Facts about the file `path` (host); None if it is not an executable or shared object.

    Raises:
        VerificationError: It starts like an ELF file but cannot be read as one.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return None
        stream.seek(0)
        try:
            # In memory, a wrong offset in the file is no error of the operating system.
            return _facts(path, BytesIO(stream.read()))
        except UNREADABLE as error:
            raise VerificationError(
                f"The file {path.name} cannot be read as ELF.",
                details=f"{path}: {error}",
                resolution="It is damaged or was cut short; build again with --force.",
            ) from error


def scan(tree: Path) -> FactsByPath:
    """Facts about every ELF file below `tree` (host) by relative path, sorted.

    Follows no symbolic links; a file with several hard links appears under the first.

    Raises:
        VerificationError: A file starts like an ELF file but cannot be read as one.
    """
    found = ((path, read_elf(path)) for path in regular_files(tree))
    return {PurePosixPath(path.relative_to(tree)): facts for path, facts in found if facts}


def _facts(path: Path, stream: BytesIO) -> ElfFacts | None:
    elf = ELFFile(stream)
    if elf["e_type"] not in LINKED_TYPES:
        return None
    size = stream.getbuffer().nbytes
    _require_room(elf.num_sections() + elf.num_segments(), size)
    segments, sections = list(elf.iter_segments()), list(elf.iter_sections())
    linking = [segment for segment in segments if isinstance(segment, DynamicSegment)]
    tags = [tag for segment in linking for tag in segment.iter_tags()]
    dynamic, values = _dynamic_entries(tags), {tag.entry.d_tag: tag.entry.d_val for tag in tags}
    soname = next(iter(dynamic["DT_SONAME"]), None)
    interpreters = [s.get_interp_name() for s in segments if isinstance(s, InterpSegment)]
    interpreter = str(interpreters[0]) if interpreters else None
    # Without an interpreter, only this flag tells a statically linked program from a library.
    marked = bool(values.get("DT_FLAGS_1", 0) & ENUM_DT_FLAGS_1["DF_1_PIE"])
    runs = elf["e_type"] == "ET_EXEC" or marked or (interpreter is not None and soname is None)
    kind = ElfKind.EXECUTABLE if runs else ElfKind.SHARED
    symbols = read_symbols(elf, sections)
    run_paths = dynamic["DT_RUNPATH"] or dynamic["DT_RPATH"]
    return ElfFacts(
        path=path,
        kind=kind,
        machine=MACHINES.get(elf["e_machine"], str(elf["e_machine"])),
        soname=soname,
        needed=tuple(dynamic["DT_NEEDED"]),
        run_path=tuple(entry for value in run_paths for entry in value.split(":") if entry),
        uses_runpath=bool(dynamic["DT_RUNPATH"]),
        interpreter=interpreter,
        needs_versions=_needed_versions(sections, size),
        defines_versions=_defined_versions(sections, size),
        mentions=_mentions(sections),
        symbols=symbols or Symbols(),
        hardening=_hardening(elf, segments, sections, values, kind, symbols),
    )


def _dynamic_entries(tags: Sequence[DynamicTag]) -> dict[str, list[str]]:
    fields = {
        "DT_NEEDED": "needed",
        "DT_SONAME": "soname",
        "DT_RPATH": "rpath",
        "DT_RUNPATH": "runpath",
    }
    entries: dict[str, list[str]] = {name: [] for name in fields}
    for tag in tags:
        if tag.entry.d_tag in fields:
            entries[tag.entry.d_tag].append(getattr(tag, fields[tag.entry.d_tag]))
    return entries


def _require_room(count: int, size: int) -> None:
    """Refuse a number of entries that do not fit into `size` bytes: reading them takes hours."""
    if count > size // SMALLEST_ENTRY:
        raise ELFError(f"{count} entries do not fit into it")


def _versions(
    section: GNUVerNeedSection | GNUVerDefSection, size: int
) -> Iterator[tuple[Version, Iterator[VersionAuxiliary]]]:
    """The entries of a table of versions in a file of `size` bytes."""
    size = min(size, section["sh_size"])
    _require_room(section.num_versions(), size)
    for version, names in section.iter_versions():
        _require_room(
            version["vn_cnt" if isinstance(section, GNUVerNeedSection) else "vd_cnt"], size
        )
        yield version, names


def _needed_versions(sections: list[Section], size: int) -> tuple[VersionNeed, ...]:
    return tuple(
        VersionNeed(str(need.name), tuple(sorted(str(version.name) for version in versions)))
        for section in sections
        if isinstance(section, GNUVerNeedSection)
        for need, versions in _versions(section, size)
    )


def _defined_versions(sections: list[Section], size: int) -> frozenset[str]:
    return frozenset(
        str(name.name)
        for section in sections
        if isinstance(section, GNUVerDefSection)
        for _, names in _versions(section, size)
        for name in islice(names, 1)
    )


def _mentions(sections: list[Section]) -> frozenset[str]:
    constants = {
        (section["sh_offset"], section["sh_size"]): section
        for section in sections
        if section.name.startswith(".rodata") and not section.compressed
    }
    return frozenset(
        match[1].decode()
        for section in constants.values()
        for match in LIBRARY_NAME.finditer(section.data())
    )


def _hardening(
    elf: ELFFile,
    segments: Sequence[Segment],
    sections: Sequence[Section],
    values: Mapping[str, int],
    kind: ElfKind,
    symbols: Symbols | None,
) -> Hardening:
    found = {segment["p_type"]: segment for segment in segments}
    runs = kind is ElfKind.EXECUTABLE
    # A statically linked program imports nothing.
    linked = "PT_INTERP" in found or not runs
    imports = symbols.imports if symbols and linked else None
    stack = found.get("PT_GNU_STACK")
    return Hardening(
        relro=_relro(values) if "PT_GNU_RELRO" in found else Relro.NONE,
        pie=elf["e_type"] == "ET_DYN" if runs else None,
        canary=None if imports is None else bool(imports & STACK_CANARY),
        fortify=None if imports is None else _fortify(imports),
        control_flow=_control_flow(elf, sections),
        # Without the header the loader assumes that the file needs one (elf/dl-load.c of glibc).
        executable_stack=stack is None or bool(stack["p_flags"] & P_FLAGS.PF_X),
    )


def _relro(values: Mapping[str, int]) -> Relro:
    binds_now = (
        "DT_BIND_NOW" in values
        or values.get("DT_FLAGS", 0) & ENUM_DT_FLAGS["DF_BIND_NOW"]
        or values.get("DT_FLAGS_1", 0) & ENUM_DT_FLAGS_1["DF_1_NOW"]
    )
    return Relro.FULL if binds_now else Relro.PARTIAL


def _fortify(imports: frozenset[bytes]) -> bool | None:
    if any(CHECKED.fullmatch(name) for name in imports):
        return True
    return False if imports & CHECKABLE else None


def _control_flow(elf: ELFFile, sections: Sequence[Section]) -> bool | None:
    feature = BRANCH_FEATURES.get(elf["e_machine"])
    if feature is None:
        return None
    properties = (
        entry
        for section in sections
        if isinstance(section, NoteSection) and section.name == ".note.gnu.property"
        for note in section.iter_notes()
        if isinstance(note["n_desc"], list)
        for entry in note["n_desc"]
    )
    return any(
        entry.pr_type == feature and entry.pr_data & BOTH_FEATURES == BOTH_FEATURES
        for entry in properties
    )
