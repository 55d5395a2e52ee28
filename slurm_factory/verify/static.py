"""The static part of a verification: files are read, and nothing of the package runs.

It needs neither root nor LXD. The packages may have been made by anybody.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.constants import EVERY_BUILDS_PATHS
from slurm_factory.exceptions import VerificationError
from slurm_factory.output.text import visible
from slurm_factory.package.distributions import distributions_with
from slurm_factory.package.licenses import IDENTITY
from slurm_factory.package.manifest import PackageIdentity
from slurm_factory.package.provenance import check_provenance
from slurm_factory.package.publish import describe, problem_with
from slurm_factory.package.tree import MAIN_LIBRARY, Tree, look_at
from slurm_factory.package.verification import Check, Result
from slurm_factory.plan.compiler import generic_level
from slurm_factory.plan.features import table
from slurm_factory.relocate.audit import CHECKS, Subject, highest_glibc, problems_of
from slurm_factory.relocate.elf import scan
from slurm_factory.relocate.policy import load_policy
from slurm_factory.util.documents import read_bytes, read_text
from slurm_factory.util.process import run, which
from slurm_factory.util.tar_stream import unpack_tarball

if TYPE_CHECKING:
    from slurm_factory.verify.package import Package

SHOWN = 3
"""Problems in one line of a report."""
LUA = ("lua5.4", "lua5.3", "lua5.1", "lua")
TCL = ("tclsh8.6", "tclsh9.0", "tclsh")
READ_LUA = 'assert(loadfile(arg[1], "t"))'
"""Compiles a file and does not run it (Lua 5.3 manual, section 6.1)."""
READ_TCL = """\
set file [open [lindex $argv 0]]
if {![info complete [read $file]]} {puts stderr "a word or a command does not end"; exit 1}
"""
BAKED_PLUGINS = b"/lib/slurm\0"
MOST_MODULES = 100
LARGEST_MODULE = 1 << 20
"""In bytes."""


class SkippedError(Exception):
    """A check does not apply, or cannot be made here; the message says why."""


class ProblemError(Exception):
    """A check has found something wrong; the message says what."""


@dataclass(frozen=True)
class Opened:
    """A package with its unpacked files (host paths).

    Attributes:
        package: The package.
        tree: The tree in its software tarball.
        modules: Directory with the files of its module tarball, if there is one.
    """

    package: Package
    tree: Tree
    modules: Path | None


@dataclass(frozen=True)
class StaticReport:
    """What was found without running anything.

    Attributes:
        checks: All checks.
        opened: The unpacked package; None if it was refused.
        glibc: Highest glibc symbol version that a file needs, such as 2.36; "" without any.
        distributions: Those that have it and the compiler's libraries, for display.
    """

    checks: tuple[Check, ...]
    opened: Opened | None
    glibc: str = ""
    distributions: tuple[str, ...] = ()


def run_check(name: str, check: Callable[[], str]) -> Check:
    """Run a check, which returns what it has found, and record what becomes of it."""
    began = time.monotonic()
    result: Result = "passed"
    try:
        detail = check()
    except SkippedError as reason:
        result, detail = "skipped", str(reason)
    except ProblemError as problem:
        result, detail = "failed", str(problem)
    except VerificationError as error:
        result, detail = "failed", error.details or error.brief
    except (OSError, ValueError, LookupError, RecursionError, MemoryError) as error:
        # Whatever a file is like, it must not end the program.
        result, detail = "failed", f"{type(error).__name__}: {error}"
    return Check(
        name=name, result=result, seconds=round(time.monotonic() - began, 3), detail=detail
    )


def look(package: Package, scratch: Path) -> StaticReport:
    """Unpack a package and check its files.

    Args:
        package: The package.
        scratch: Directory (host) for its files, which nobody else can write to.

    Raises:
        OutputError: A file cannot be read or written.
    """
    checks = [
        run_check("checksums", lambda: _checksums(package)),
        run_check("signature", lambda: _signature(package)),
        run_check("provenance", lambda: _provenance(package)),
    ]
    opened: Opened | None = None

    def unpack() -> str:
        nonlocal opened
        opened = _open(package, scratch)
        return f"{sum(1 for _ in opened.tree.path.rglob('*')):,} files below {opened.tree.top}/"

    checks.append(run_check("archive", unpack))
    if opened is None:
        return StaticReport(tuple(checks), None)
    subject: Subject | None = None

    def read() -> str:
        nonlocal subject
        subject = _subject(opened)
        return f"{len(subject.facts)} ELF files"

    checks.append(run_check("elf", read))
    if subject is None:
        return StaticReport(tuple(checks), opened)
    glibc, found = "", tuple[str, ...]()

    def floor() -> str:
        nonlocal glibc, found
        glibc = highest_glibc(subject.facts) or ""
        found = distributions_with(glibc or "2.0", sorted(_versions(subject)))
        return _floor(glibc, package)

    checks += [run_check(name, check) for name, check in _checks(opened, subject)]
    checks.append(run_check("floor", floor))
    return StaticReport(tuple(checks), opened, glibc, found)


def _versions(subject: Subject) -> set[str]:
    """Versions of symbols that files need."""
    needs = (need for elf in subject.facts.values() for need in elf.needs_versions)
    return {version for need in needs for version in need.versions}


def _checks(opened: Opened, subject: Subject) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "identity", partial(_identity, opened)
    yield "prefix", partial(_prefix, opened)
    for about in CHECKS:
        yield about, partial(_audited, subject, about)
    yield "features", partial(_features, opened)
    yield "bundled", partial(_bundled, opened)
    yield "cpu", partial(_cpu, opened)
    yield "lua", partial(_modules, opened, "*.lua", LUA, READ_LUA)
    yield "tcl", partial(_modules, opened, "modulefiles/**/*", TCL, READ_TCL)


def _open(package: Package, scratch: Path) -> Opened:
    unpack_tarball(package.software, scratch / "tree")
    tops = sorted(each for each in (scratch / "tree").iterdir())
    if len(tops) != 1 or not tops[0].is_dir() or tops[0].is_symlink():
        names = ", ".join(top.name for top in tops[: SHOWN + 1]) or "nothing"
        raise ProblemError(f"The tarball has to contain one directory; it contains {names}.")
    modules = None
    if package.module:
        modules = scratch / "modules"
        unpack_tarball(package.module, modules)
    return Opened(package, look_at(tops[0]), modules)


def _subject(opened: Opened) -> Subject:
    manifest = opened.package.manifest
    floor = str(manifest.plan.get("glibc") or "") if manifest else ""
    return Subject(
        opened.tree.path,
        scan(opened.tree.path),
        load_policy(),
        tuple(map(str, EVERY_BUILDS_PATHS)),
        floor if re.fullmatch(r"[0-9]+\.[0-9]+", floor) else "",
        manifest.identity.arch if manifest else "",
    )


def _checksums(package: Package) -> str:
    if package.manifest is None or package.manifest_path is None:
        raise SkippedError("there is no manifest")
    directory = package.manifest_path.parent
    if problem := problem_with(package.manifest, directory):
        raise ProblemError(problem)
    looked_at = describe(package.software)
    if looked_at.sha256 not in {file.sha256 for file in package.manifest.files}:
        raise ProblemError(f"{package.software.name} was changed in the meantime")
    listed = {file.name: file.sha256 for file in package.manifest.files}
    text = read_bytes(directory / package.manifest.identity.checksums).decode(errors="replace")
    for line in text.splitlines():
        checksum, _, name = line.partition("  ")
        if listed.get(name) != checksum:
            raise ProblemError(f"{name} has another checksum in the manifest")
    return f"{len(listed)} files are those of the manifest"


def _signature(package: Package) -> str:
    # A package with a wrong one does not come here (package.find_trusted).
    if package.signature is None:
        raise SkippedError("nobody who is trusted has signed it")
    return f"signed by {package.signature.brief}"


def _provenance(package: Package) -> str:
    if package.manifest is None or package.manifest_path is None:
        raise SkippedError("there is no manifest")
    statement = check_provenance(package.manifest, package.manifest_path.parent)
    if statement is None:
        raise SkippedError("an earlier version has built it")
    return f"built by {visible(statement.predicate.run_details.builder.id)}"


def _identity(opened: Opened) -> str:
    manifest, path = opened.package.manifest, opened.tree.path / IDENTITY
    if not path.is_file():
        raise SkippedError(f"there is no {IDENTITY}: it was made by something else")
    try:
        told = PackageIdentity.model_validate_json(read_text(path))
    except (OSError, ValueError) as error:
        raise ProblemError(f"{IDENTITY} cannot be read: {str(error).splitlines()[0]}") from error
    if manifest and told != manifest.identity:
        raise ProblemError(f"{IDENTITY} and the manifest describe different packages")
    return f"Slurm {opened.tree.release}"


def _prefix(opened: Opened) -> str:
    """Whether Slurm asks where it lies (dladdr(3)), or only knows where it was installed."""
    path = opened.tree.path / MAIN_LIBRARY
    if not path.is_file():
        raise ProblemError(f"there is no {MAIN_LIBRARY}: this is no Slurm")
    content = read_bytes(path)
    end = content.find(BAKED_PLUGINS)
    if end >= 0 and b"dladdr" not in content:
        prefix = content[max(0, end - 200) : end].rpartition(b"\0")[2].decode(errors="replace")
        raise ProblemError(
            f"Slurm looks for its plugins in {prefix}/lib/slurm only, and never asks where it lies"
        )
    return "Slurm finds its plugins from where it lies"


def _audited(subject: Subject, about: str) -> str:
    found = problems_of(subject, about)
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ProblemError("; ".join(map(str, found[:SHOWN])) + more)
    return f"{len(subject.facts)} ELF files"


def _features(opened: Opened) -> str:
    """Whether the tree has the files of the features that the manifest names.

    Live checks are skipped for what a tree does not have.
    """
    manifest = opened.package.manifest
    if manifest is None:
        raise SkippedError("there is no manifest")
    named = [row for row in table() if row.name in manifest.features]
    for row in named:
        for file in row.files:
            if not opened.tree.has(file):
                raise ProblemError(f"{file} of the feature {row.name} is missing")
    return f"the files of {len(named)} features are there"


def _bundled(opened: Opened) -> str:
    manifest = opened.package.manifest
    if manifest is None:
        raise SkippedError("there is no manifest")
    for item in manifest.bundled:
        path = opened.tree.path / PurePosixPath(item.file)
        if ".." in PurePosixPath(item.file).parts or not path.is_file():
            raise ProblemError(f"{item.file} is missing")
        if hashlib.sha256(read_bytes(path)).hexdigest() != item.sha256:
            raise ProblemError(f"{item.file} is not that of {item.package} {item.package_version}")
    return f"{len(manifest.bundled)} libraries and programs are those of the manifest"


def _floor(glibc: str, package: Package) -> str:
    manifest = package.manifest
    if manifest and glibc and manifest.glibc != glibc:
        raise ProblemError(f"it needs glibc {glibc}, and the manifest says {manifest.glibc}")
    return f"needs glibc {glibc}"


def _cpu(opened: Opened) -> str:
    manifest = opened.package.manifest
    if manifest is None or not manifest.identity.cpu:
        raise SkippedError("there is no manifest that says so")
    level = generic_level(manifest.identity.cpu)
    return f"compiled for {level or manifest.identity.cpu}"


def _modules(opened: Opened, pattern: str, programs: tuple[str, ...], reading: str) -> str:
    if opened.modules is None:
        raise SkippedError("there are no module files")
    program = next((path for name in programs if (path := which(name))), None)
    if program is None:
        raise SkippedError(f"{programs[0]} is not installed here")
    files = [path for path in sorted(opened.modules.rglob(pattern)) if path.is_file()]
    if not 0 < len(files) <= MOST_MODULES:
        raise ProblemError(f"there are {len(files)}")
    script = opened.modules.parent / f"read-{program.name}"
    script.write_text(reading)
    for path in files:
        if path.stat().st_size > LARGEST_MODULE:
            raise ProblemError(f"{path.name} is too large")
        done = run([str(program), str(script), str(path)])
        if not done.ok:
            lines = done.errors.strip().splitlines() or ["no message"]
            raise ProblemError(f"{path.name}: {lines[0]}")
    return f"{len(files)} module file(s), read by {program.name}"
