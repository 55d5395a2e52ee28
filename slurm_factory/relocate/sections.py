"""Where two ELF files differ."""

from __future__ import annotations

from io import BytesIO

from elftools.elf.elffile import ELFFile

from slurm_factory.relocate.elf import MAGIC, UNREADABLE
from slurm_factory.util.hints import printable

MOST_SECTIONS = 1000
"""Files of compilers have some 30."""
MOST_TIMES = 4
"""A file whose sections have more than so many times its bytes is made to waste time."""


def is_elf(content: bytes) -> bool:
    """Whether a file begins as ELF files do."""
    return content.startswith(MAGIC)


def differing_sections(a: bytes, b: bytes) -> tuple[str, ...] | None:
    """Names of the sections that differ, or that only one of two ELF files has, in their order.

    Args:
        a: Content of a file, which anybody may have made.
        b: Content of another one.

    Returns:
        Names for display; empty if only headers differ. None if one file cannot be read.
    """
    try:
        ours, theirs = _sections(a), _sections(b)
    except UNREADABLE:
        return None
    names = [*ours, *(name for name in theirs if name not in ours)]
    return tuple(printable(name) for name in names if ours.get(name) != theirs.get(name))


def _sections(content: bytes) -> dict[str, tuple[bytes, ...]]:
    """Content of each section by its name; several may have the same one."""
    elf = ELFFile(BytesIO(content))
    if elf.num_sections() > MOST_SECTIONS:
        raise ValueError("too many sections")
    found: dict[str, tuple[bytes, ...]] = {}
    left = MOST_TIMES * len(content)
    for section in elf.iter_sections():
        held = section["sh_type"] != "SHT_NOBITS"
        left -= section["sh_size"] if held else 0
        if left < 0:
            raise ValueError("sections are larger than the file")
        start = section["sh_offset"]
        data = content[start : start + section["sh_size"]] if held else b""
        size = b"" if held else str(section["sh_size"]).encode()
        found[section.name] = (*found.get(section.name, ()), data, size)
    return found
