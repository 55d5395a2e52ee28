"""Facts about ELF files; reads only, runs nothing."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeAlias

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection
from elftools.elf.sections import Section
from elftools.elf.segments import InterpSegment, Segment

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.tree import regular_files

MAGIC = b"\x7fELF"
LINKED_TYPES = frozenset({"ET_EXEC", "ET_DYN"})
LIBRARY_NAME = re.compile(rb"(?<![^\0/])(lib[\w.+-]+\.so(?:\.\d+)*)(?=\0)")


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
    DT_RPATH, because ld.so ignores the latter then (ld.so(8)). `mentions` are the names of
    libraries in its constants, which it may open with dlopen.
    """

    path: Path
    kind: ElfKind
    soname: str | None = None
    needed: tuple[str, ...] = ()
    run_path: tuple[str, ...] = ()
    uses_runpath: bool = False
    interpreter: str | None = None
    needs_versions: tuple[VersionNeed, ...] = ()
    defines_versions: frozenset[str] = frozenset()
    mentions: frozenset[str] = frozenset()


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
            return _facts(path, stream)
        except (ELFError, UnicodeDecodeError, AssertionError) as error:
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


def _facts(path: Path, stream: BinaryIO) -> ElfFacts | None:
    elf = ELFFile(stream)
    if elf["e_type"] not in LINKED_TYPES:
        return None
    segments, sections = list(elf.iter_segments()), list(elf.iter_sections())
    dynamic = _dynamic_entries(segments)
    soname = next(iter(dynamic["DT_SONAME"]), None)
    interpreters = [s.get_interp_name() for s in segments if isinstance(s, InterpSegment)]
    interpreter = str(interpreters[0]) if interpreters else None
    runs = elf["e_type"] == "ET_EXEC" or (interpreter is not None and soname is None)
    run_paths = dynamic["DT_RUNPATH"] or dynamic["DT_RPATH"]
    return ElfFacts(
        path=path,
        kind=ElfKind.EXECUTABLE if runs else ElfKind.SHARED,
        soname=soname,
        needed=tuple(dynamic["DT_NEEDED"]),
        run_path=tuple(entry for value in run_paths for entry in value.split(":") if entry),
        uses_runpath=bool(dynamic["DT_RUNPATH"]),
        interpreter=interpreter,
        needs_versions=_needed_versions(sections),
        defines_versions=_defined_versions(sections),
        mentions=_mentions(sections),
    )


def _dynamic_entries(segments: list[Segment]) -> dict[str, list[str]]:
    fields = {
        "DT_NEEDED": "needed",
        "DT_SONAME": "soname",
        "DT_RPATH": "rpath",
        "DT_RUNPATH": "runpath",
    }
    entries: dict[str, list[str]] = {name: [] for name in fields}
    linking = [segment for segment in segments if isinstance(segment, DynamicSegment)]
    for tag in (tag for segment in linking for tag in segment.iter_tags()):
        if tag.entry.d_tag in fields:
            entries[tag.entry.d_tag].append(getattr(tag, fields[tag.entry.d_tag]))
    return entries


def _needed_versions(sections: list[Section]) -> tuple[VersionNeed, ...]:
    return tuple(
        VersionNeed(str(need.name), tuple(sorted(str(version.name) for version in versions)))
        for section in sections
        if isinstance(section, GNUVerNeedSection)
        for need, versions in section.iter_versions()
    )


def _defined_versions(sections: list[Section]) -> frozenset[str]:
    return frozenset(
        str(next(names).name)
        for section in sections
        if isinstance(section, GNUVerDefSection)
        for _, names in section.iter_versions()
    )


def _mentions(sections: list[Section]) -> frozenset[str]:
    return frozenset(
        match[1].decode()
        for section in sections
        if section.name.startswith(".rodata")
        for match in LIBRARY_NAME.finditer(section.data())
    )
