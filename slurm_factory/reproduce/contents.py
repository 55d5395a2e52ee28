"""Why two files differ, as far as their content tells it. Pure."""

from __future__ import annotations

import zlib
from itertools import zip_longest

from slurm_factory.relocate.sections import differing_sections, is_elf
from slurm_factory.util.hints import printable

GZIP = b"\x1f\x8b"
BYTECODE_HEADER = 16
"""Length of the header of a .pyc in bytes (PEP 552)."""
LARGEST_TEXT = 8 << 20
LARGEST_UNPACKED = 64 << 20
SECTIONS_SHOWN = 8


def why_different(name: str, a: bytes, b: bytes) -> str:
    """The most telling difference of two files that differ, in words.

    Args:
        name: Name of both.
        a: Content in the package, which anybody may have made.
        b: Content that was built again.
    """
    if is_elf(a) and is_elf(b):
        return f"ELF: {_elf(a, b)}; {_place(a, b)}"
    if a.startswith(GZIP) and b.startswith(GZIP):
        return _compressed(name.removesuffix(".gz"), a, b)
    if name.endswith(".pyc"):
        header = a[:BYTECODE_HEADER] != b[:BYTECODE_HEADER]
        code = a[BYTECODE_HEADER:] != b[BYTECODE_HEADER:]
        parts = ["time or size of its source"] * header + ["code"] * code
        return f"Python's bytecode: {' and '.join(parts)}"
    texts = _text(a), _text(b)
    if texts[0] is not None and texts[1] is not None:
        return _first_line(texts[0], texts[1])
    return _place(a, b)


def _elf(a: bytes, b: bytes) -> str:
    sections = differing_sections(a, b)
    if sections is None:
        return "its sections cannot be read"
    if not sections:
        return "headers, or bytes between sections"
    more = len(sections) - SECTIONS_SHOWN
    names = ", ".join(sections[:SECTIONS_SHOWN])
    return names + (f" and {more} more sections" if more > 0 else "")


def _compressed(name: str, a: bytes, b: bytes) -> str:
    plain = _unpacked(a), _unpacked(b)
    if plain[0] is None or plain[1] is None:
        return f"compressed by gzip; {_place(a, b)}"
    if plain[0] == plain[1]:
        return "compressed by gzip in another way; the same content"
    return f"compressed by gzip, in it: {why_different(name, plain[0], plain[1])}"


def _unpacked(content: bytes) -> bytes | None:
    """None if it is damaged or too large."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = unpacker.decompress(content, LARGEST_UNPACKED)
    except zlib.error:
        return None
    # What is compressed twice is no file that somebody reads.
    return plain if unpacker.eof and not plain.startswith(GZIP) else None


def _text(content: bytes) -> str | None:
    if len(content) > LARGEST_TEXT or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _first_line(a: str, b: str) -> str:
    lines = zip_longest(a.split("\n"), b.split("\n"))
    number, old, new = next(
        (number, old, new) for number, (old, new) in enumerate(lines, start=1) if old != new
    )
    ours, theirs = ("nothing" if each is None else f'"{printable(each)}"' for each in (old, new))
    return f"text, line {number}: {ours} → {theirs}"


def _place(a: bytes, b: bytes) -> str:
    """Such as `first at byte 4096 of 51200`."""
    sizes = f"{len(a):,}" if len(a) == len(b) else f"{len(a):,} and {len(b):,}"
    return f"first at byte {_first(a, b):,} of {sizes}"


def _first(a: bytes, b: bytes) -> int:
    """Number of bytes at the beginning that are the same."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    views = memoryview(a), memoryview(b)
    while high - low > 1:
        middle = (low + high) // 2
        if views[0][low:middle] == views[1][low:middle]:
            low = middle
        else:
            high = middle
    return low
