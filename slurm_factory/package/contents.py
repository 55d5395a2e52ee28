"""What packaging adds to a tree before it is packed: licence texts and its identity."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from slurm_factory.exceptions import VerificationError
from slurm_factory.package.records import PackageIdentity
from slurm_factory.package.writing import not_written, write_text

LICENCES = PurePosixPath("share/licenses")
IDENTITY = PurePosixPath("share/slurm-factory.json")
"""Where the module files look for the version of a tree."""


def write_identity(tree: Path, identity: PackageIdentity) -> Path:
    """Write into a tree (host) what it is, and return the file's path.

    Raises:
        OutputError: It cannot be written.
    """
    return write_text(tree / IDENTITY, identity.model_dump_json(indent=2) + "\n")


def collect_licences(
    tree: Path, slurm: Iterable[Path], bundled: Mapping[str, Path]
) -> tuple[Path, ...]:
    """Copy licence texts to `share/licenses/<component>/` of a tree.

    Args:
        tree: The tree (host).
        slurm: Slurm's own texts (host): COPYING, LICENSE.OpenSSL, DISCLAIMER.
        bundled: For each component whose files are bundled, its licence text (host), such as the
            distribution's `/usr/share/doc/<package>/copyright`.

    Returns:
        The files written (host).

    Raises:
        VerificationError: A text is missing: without it the component must not be passed on.
        OutputError: A text cannot be written.
    """
    wanted = [(path, tree / LICENCES / "slurm" / path.name) for path in slurm]
    wanted += [
        (path, tree / LICENCES / component / "copyright")
        for component, path in sorted(bundled.items())
    ]
    for source, destination in wanted:
        _copy(source, destination)
    return tuple(destination for _, destination in wanted)


def _copy(source: Path, destination: Path) -> None:
    if not source.is_file():
        raise VerificationError(
            f"The licence text of {destination.parent.name} is missing.",
            details=f"There is no file {source}.",
            resolution="Install the package's documentation in the base; dpkg can be told to leave"
            " /usr/share/doc out: see path-exclude in dpkg(1).",
        )
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)
    except OSError as error:
        raise not_written(destination, error) from error
