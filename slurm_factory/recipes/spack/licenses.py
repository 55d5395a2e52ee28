"""License texts of Spack's packages, from their sources: Spack keeps none with a package."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.util.files import atomic_write

if TYPE_CHECKING:
    from slurm_factory.recipes.spack.packages import PackageDescription, PackageSource

LICENSE_NAME = re.compile(r"(un)?licen[cs]es?|copying|copyright|notice|disclaimer", re.IGNORECASE)
"""Prefix of the names of license files, or of directories with such files."""
LICENSE_IN = {"lua": "src/lua.h"}
"""Packages with the license in another file of their source."""
LARGEST = 1 << 20
"""Bytes of a license text; a larger file is not one."""


@dataclass(frozen=True)
class LicenseFinder:
    """Finds or makes the license text of packages.

    Attributes:
        source_cache: Source mirror in Spack's layout (host).
        saved: Directory (host) for texts from archives.
    """

    source_cache: Path
    saved: Path

    def text(self, package: PackageDescription, shipped: Sequence[Path]) -> str:
        """The license text of a package.

        Args:
            package: As Spack describes it.
            shipped: License files that the package itself has installed (host).

        Returns:
            All texts one after the other; without any, the license by Spack's package recipe, and
            that the text was not available.
        """
        if shipped:
            return _joined((path.name, path.read_bytes()) for path in sorted(shipped))
        # Behind the archive come resources and patches, which have licenses of their own.
        found = (self._from_source(package.name, source) for source in package.sources[:1])
        return next(filter(None, found), "") or _statement(package)

    def _from_source(self, name: str, source: PackageSource) -> str:
        saved = self.saved / f"{source.stored_as.name.partition('.')[0]}.txt"
        if saved.exists():
            return saved.read_text("utf-8")
        archive = source.find(self.source_cache)
        found = _joined(_texts(archive, LICENSE_IN.get(name))) if archive else ""
        if found:
            self.saved.mkdir(parents=True, exist_ok=True)
            with atomic_write(saved) as file:
                file.write(found.encode())
        return found


def _texts(archive: Path, other: str | None) -> Iterator[tuple[str, bytes]]:
    """Name and content of the license files of a source archive."""
    try:
        with tarfile.open(archive) as source:
            for member in source:
                if not member.isfile() or member.size > LARGEST:
                    continue
                name = PurePosixPath(*PurePosixPath(member.name).parts[1:])
                stream = source.extractfile(member) if _is_license(name, other) else None
                if stream:
                    yield str(name), stream.read()
    except (tarfile.TarError, OSError, EOFError):
        # Not an archive that Python reads, such as a single file: Spack still knows the license.
        return


def _is_license(name: PurePosixPath, other: str | None) -> bool:
    depth = len(name.parts)
    at_top = depth == 1 or (depth == 2 and LICENSE_NAME.match(name.parts[0]))  # noqa: PLR2004
    return str(name) == other or bool(at_top and LICENSE_NAME.match(name.parts[0]))


def _joined(texts: Iterable[tuple[str, bytes]]) -> str:
    parts = (f"==> {name} <==\n\n{content.decode('utf-8', 'replace')}" for name, content in texts)
    return "\n\n".join(parts)


def _statement(package: PackageDescription) -> str:
    return (
        f"{package.name} {package.version}\n"
        f"License by Spack's package recipe: {' and '.join(package.licenses) or 'not stated'}\n"
        f"Home page: {package.homepage}\n\n"
        "The text of the license was not in a source archive on the machine that made this"
        " package; the home page has it.\n"
    )
