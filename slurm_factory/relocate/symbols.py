"""The dynamic symbols of ELF files: what a file imports, exports, and has a copy of."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section, SymbolTableSection

from slurm_factory.resources import sysroot_file

LAYOUTS = {32: ("IIIBBH", 5, 3, 1), 64: ("IBBHQQ", 3, 1, 4)}
"""Format of a symbol, whose first field is its name, and its fields with the section, with binding
and type, and with the value (elf(5))."""
RELOCATION = 24
"""Size of an entry of a table of relocations in bytes (elf(5), Elf64_Rela)."""
MOST_TABLES = 100
"""Of relocations; linked files have two or three."""
UNDEFINED = 0
WEAK = 2
NO_VERSION = 1
"""Highest entry in the table of versions that names none (VER_NDX_GLOBAL)."""
HIDDEN = 0x8000
"""Flag in that table: another version is the default."""
COPIES = {"EM_X86_64": 5, "EM_AARCH64": 1024}
"""Relocations by which a program gets a copy of a library's variable (psABI: R_X86_64_COPY,
R_AARCH64_COPY)."""


@dataclass(frozen=True, slots=True)
class Symbols:
    """Dynamic symbols of one file.

    Attributes:
        imports: All that it does not define.
        unversioned: Those that any library may define, without which it does not start.
        exports: All that it defines.
        lone_copies: Variables of which the program has a copy that the C library does not use,
            because it uses another name of the variable.
    """

    imports: frozenset[bytes] = frozenset()
    unversioned: frozenset[bytes] = frozenset()
    exports: frozenset[bytes] = frozenset()
    lone_copies: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: bytes
    section: int
    weak: bool
    value: int
    version: int


def read_symbols(elf: ELFFile, sections: Sequence[Section]) -> Symbols | None:
    """The dynamic symbols of a file; None if it has no table of them.

    Read without pyelftools' iter_symbols, which takes 60 times as long.
    """
    table = next((s for s in sections if s["sh_type"] == "SHT_DYNSYM"), None)
    if not isinstance(table, SymbolTableSection):
        return None
    _require_plain(table)
    symbols = list(_symbols(elf, table, sections))
    missing = [symbol for symbol in symbols if symbol.section == UNDEFINED and symbol.name]
    defined = [symbol for symbol in symbols if symbol.section != UNDEFINED]
    values = {symbol.name: symbol.value for symbol in defined}
    copied = {symbols[number].name for number in _copied(elf, sections) if number < len(symbols)}
    return Symbols(
        imports=frozenset(symbol.name for symbol in missing),
        unversioned=frozenset(
            symbol.name
            for symbol in missing
            if not symbol.weak and symbol.version & ~HIDDEN <= NO_VERSION
        ),
        exports=frozenset(values),
        lone_copies=frozenset(
            name
            for name in copied
            if (used := aliases().get(name)) and values.get(used) != values.get(name)
        ),
    )


@cache
def aliases() -> Mapping[bytes, bytes]:
    """Names of glibc's variables, and the name by which glibc itself uses each."""
    words = sysroot_file("aliases.txt").encode().split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _symbols(
    elf: ELFFile, table: SymbolTableSection, sections: Sequence[Section]
) -> Iterator[_Symbol]:
    order = "<" if elf.little_endian else ">"
    layout, section, info, value = LAYOUTS[elf.elfclass]
    names = table.stringtable.data()
    rows = list(struct.iter_unpack(order + layout, table.data()))
    versions = _versions(order, sections, len(rows))
    for row, version in zip(rows, versions, strict=True):
        name = names[row[0] : names.find(b"\0", row[0])]
        yield _Symbol(name, row[section], row[info] >> 4 == WEAK, row[value], version)


def _versions(order: str, sections: Sequence[Section], count: int) -> Sequence[int]:
    """An entry of the table of versions for each symbol; without a table, none has a version."""
    table = next((s for s in sections if s["sh_type"] == "SHT_GNU_versym"), None)
    if table is not None:
        _require_plain(table)
    found = (
        [] if table is None else [row[0] for row in struct.iter_unpack(f"{order}H", table.data())]
    )
    return [*found[:count], *[NO_VERSION] * (count - len(found))]


def _copied(elf: ELFFile, sections: Sequence[Section]) -> Iterator[int]:
    """Numbers of the symbols that the program gets a copy of; of 64-bit files."""
    wanted = COPIES.get(elf["e_machine"])
    order = "<" if elf.little_endian else ">"
    # The headers of any number of sections may name one place.
    tables = {
        (section["sh_offset"], section["sh_size"]): section
        for section in sections
        if wanted and section["sh_type"] == "SHT_RELA"
    }
    if len(tables) > MOST_TABLES:
        raise ELFError(f"it has {len(tables)} tables of relocations")
    for section in tables.values():
        if section["sh_size"] % RELOCATION == 0:
            _require_plain(section)
            for _, info, _ in struct.iter_unpack(f"{order}QQq", section.data()):
                if info & 0xFFFFFFFF == wanted:
                    yield info >> 32


def _require_plain(section: Section) -> None:
    """Refuse a compressed section: no loader reads one, and its content may be without end."""
    if section.compressed:
        raise ELFError(f"{section.name} is compressed")
