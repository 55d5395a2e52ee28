"""Files that packaging adds to a tree: license texts and its identity."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from slurm_factory.exceptions import VerificationError
from slurm_factory.package.manifest import PackageIdentity
from slurm_factory.relocate.tree import make_room, regular_files
from slurm_factory.util.files import file_errors, write_text

LICENSES = PurePosixPath("share/licenses")
COMMON_LICENSES = LICENSES / "common-licenses"
COMMON_LICENSE = re.compile(r"/usr/share/common-licenses/(?:\{([^}]*)\}|([A-Za-z0-9][\w.+-]*))")
"""References of copyright files to Debian's common license texts (Debian Policy, section 12.5)."""
LICENSE_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
LICENSE_MISSING = (
    "Install the package's documentation in the base; check whether dpkg excludes"
    " /usr/share/doc: see path-exclude in dpkg(1)."
)
COMMON_LICENSE_MISSING = (
    "The component's copyright file refers to it. Reinstall the package with these texts in the"
    " base: apt-get install --reinstall base-files"
)
IDENTITY = PurePosixPath("share/slurm-factory.json")
"""The file in which the module files look for the stem and the release of a tree."""


def write_identity(tree: Path, identity: PackageIdentity) -> Path:
    """Write the identity into a tree (host), and return the file's path.

    Raises:
        OutputError: It cannot be written.
    """
    with file_errors(tree / IDENTITY):
        return write_text(make_room(tree, IDENTITY), identity.model_dump_json(indent=2) + "\n")


def collect_licenses(tree: Path, bundled: Mapping[str, Path]) -> tuple[Path, ...]:
    """Copy license texts to `share/licenses/<component>/` of a tree.

    Args:
        tree: The tree (host).
        bundled: For each component whose files are bundled, its license text (host), such as the
            distribution's `/usr/share/doc/<package>/copyright`.

    Returns:
        The files written (host).

    Raises:
        VerificationError: A text is missing: without it, the license does not allow distributing
            the component.
        OutputError: A text cannot be written.
    """
    written = []
    for component, text in sorted(bundled.items()):
        _require(text, component, LICENSE_MISSING)
        written.append(_copy(text, tree, LICENSES / component / "copyright"))
    return tuple(written)


def collect_common_licenses(tree: Path, texts: Path) -> tuple[Path, ...]:
    """Copy the common license texts that licenses in a tree refer to, which other machines lack.

    They go to `share/licenses/common-licenses/`.

    Args:
        tree: The tree (host), with the licenses of everything in it.
        texts: Directory (host) with the distribution's `/usr/share/common-licenses`.

    Returns:
        The files written (host).

    Raises:
        VerificationError: A text is missing: without it, the license does not allow distributing
            the component.
        OutputError: A text cannot be written.
    """
    named: dict[str, None] = {}
    for path in regular_files(tree / LICENSES):
        for name in sorted(_common_licenses_in(path.read_text("utf-8", errors="replace"))):
            _require(texts / name, path.parent.name, COMMON_LICENSE_MISSING)
            named[name] = None
    return tuple(_copy(texts / name, tree, COMMON_LICENSES / name) for name in named)


def _common_licenses_in(text: str) -> set[str]:
    """Names of the texts; `{GPL-2,LGPL-2.1}` is several, and a full stop ends a sentence."""
    found = (several or one for several, one in COMMON_LICENSE.findall(text))
    names = {name.strip().rstrip(".+-") for listed in found for name in listed.split(",")}
    # The text comes out of an instance: a name must not lead anywhere else.
    return {name for name in names if LICENSE_NAME.fullmatch(name)}


def _require(text: Path, component: str, resolution: str) -> None:
    if not text.is_file():
        raise VerificationError(
            f"The license text of {component} is missing.",
            details=f"The file {text} does not exist.",
            resolution=resolution,
        )


def _copy(source: Path, tree: Path, path: PurePosixPath) -> Path:
    with file_errors(tree / path):
        return Path(shutil.copyfile(source, make_room(tree, path)))
