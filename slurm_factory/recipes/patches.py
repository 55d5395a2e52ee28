"""The patches of a build: where they are from, and what patch(1) says of them."""

from __future__ import annotations

import hashlib
import re
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.exceptions import ConfigurationError, DownloadError
from slurm_factory.fetch.upstream import BACKPORTS, sources_for
from slurm_factory.package.manifest import AppliedPatch
from slurm_factory.resources import patches_dir
from slurm_factory.util.hints import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slurm_factory.config import Settings
    from slurm_factory.plan.plan import BuildPlan

OURS = "slurm-factory"
"""Origin of the patches that this program has."""
SITE = "site"
APPLYING = re.compile(r"(?:==> )?Applying (\S+)")
"""The line before each patch; Spack begins its own with an arrow."""
FILE = re.compile(r"(?:patching file|checking file|can't find file to patch at input line) (.+)")
NAMED = re.compile(r"\|(?:---|\+\+\+) (?:[ab]/)?(\S+)")
"""What patch(1) quotes of a file that it does not find."""
GARBAGE = re.compile(r"(?:patch: )?\**\s*(malformed patch at line \d+|Only garbage was found)")
HUNK = re.compile(r"Hunk #(\d+) FAILED at (\d+)|(\d+) out of \d+ hunks? (?:FAILED|ignored)")


@dataclass(frozen=True)
class PatchFile:
    """A patch to Slurm's source.

    Attributes:
        name: File name; no two patches of a build have the same.
        origin: `OURS`, a revision of Debian, or `SITE`.
        content: The patch, for `patch -p1`.
    """

    name: str
    origin: str
    content: bytes


def patch_files(plan: BuildPlan, settings: Settings) -> tuple[PatchFile, ...]:
    """All patches of a build, in the order in which they are applied.

    Args:
        plan: What to build; its sources are in the cache.
        settings: Settings of this site.

    Raises:
        BuildError: The program's own patches have changed since the build was planned.
        DownloadError: Debian's archive has not the patches that the catalog names.
    """
    ours = (
        PatchFile(patch.name, OURS, patch.require((patches_dir() / patch.name).read_bytes()))
        for patch in plan.patches
    )
    site = (
        PatchFile(f"site-{number:02}-{patch.name}", SITE, patch.content)
        for number, patch in enumerate(plan.site_patches, 1)
    )
    return (*ours, *_backports(plan, settings), *site)


def _backports(plan: BuildPlan, settings: Settings) -> Iterator[PatchFile]:
    if plan.backports is None:
        return
    source = sources_for(plan, settings)[BACKPORTS]
    path = settings.source_cache_dir / source.stored_as
    try:
        with tarfile.open(path, "r:*") as archive:
            for number, member in enumerate(plan.backports.patches, 1):
                with archive.extractfile(member) as file:  # type: ignore[union-attr]
                    content = file.read()
                name = f"{plan.backports.name}-{number:02}-{PurePosixPath(member).name}"
                yield PatchFile(name, plan.backports.name, content)
    except (AttributeError, KeyError, OSError, tarfile.TarError) as error:
        raise DownloadError(
            f"{source.name} has not the expected content.",
            details=f"{error}: {path}",
            resolution="Remove the file and build again, or build with --no-backports.",
        ) from error


def applied(patches: Sequence[PatchFile], plan: BuildPlan) -> tuple[AppliedPatch, ...]:
    """The patches for the manifest and the SBOM."""
    fixes = plan.fixed_advisories
    return tuple(
        AppliedPatch(
            name=patch.name,
            origin=patch.origin,
            sha256=hashlib.sha256(patch.content).hexdigest(),
            fixes=tuple(each for each in fixes if each in patch.name)
            if patch.origin not in {OURS, SITE}
            else (),
        )
        for patch in patches
    )


class PatchProgress:
    """Handles each output line of patch(1).

    Args:
        take: Takes every line.

    Attributes:
        failed: What did not fit first, such as `hunk 2 of src/slurmd/slurmd.c, at line 40`; empty:
            everything fitted.
        patch: The patch that was applied last.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        self.failed = ""
        self.patch = ""
        self._take = take
        self._file = ""
        self._missing = False

    def __call__(self, line: str) -> None:
        """Handle a line."""
        self._take(line)
        if self.failed:
            return
        if found := APPLYING.match(line):
            self.patch = found[1]
        elif found := FILE.match(line):
            self._missing = line.startswith("can't")
            self._file = "" if self._missing else printable(found[1].strip("'"))
        elif self._missing and (found := NAMED.match(line)):
            self._file = printable(found[1])
        elif found := GARBAGE.search(line):
            self.failed = printable(found[1])
        elif found := HUNK.search(line):
            file, hunk, at = self._file or "a file", found[1], found[2]
            here = f"hunk {hunk} of {file}, at line {at}"
            self.failed = here if hunk else f"{file}, which this release does not have"

    def error(self, release: str) -> ConfigurationError:
        """The error for the patch that does not fit a release, such as 24.11.5."""
        return ConfigurationError(
            f"The patch {printable(self.patch)} does not apply to Slurm {release}.",
            details=f"It does not fit without fuzz: {self.failed}.",
            resolution="Write the patch again for this release, or leave it out. Patches of a"
            " --patch are applied after those of slurm-factory and of Debian.",
        )
