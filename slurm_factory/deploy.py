"""Deploying a package on this machine: `resources/deploy/deploy.sh` does it, with or without us."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from slurm_factory import resources
from slurm_factory.exceptions import VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.verify.package import Package

SHELL = "/bin/sh"


def words_for(package: Package) -> tuple[str, ...]:
    """Arguments of the script for a package: its tarball, and the checksums in its manifest.

    Raises:
        VerificationError: The manifest does not list the tarball.
    """
    if package.manifest is None:
        return (str(package.software),)
    sums = {file.name: file.sha256 for file in package.manifest.files}
    if package.software.name not in sums:
        raise VerificationError(
            f"The manifest of {package.stem} does not list {package.software.name}.",
            details=f"It is {package.manifest_path}.",
            resolution="Copy all files of the build again.",
        )
    words = (str(package.software), "--sha256", sums[package.software.name])
    module = package.manifest.identity.module_tarball
    return (*words, "--module-sha256", sums[module]) if module in sums else words


def become_script(words: Sequence[str]) -> NoReturn:
    """Replace this program by the script, which then has its terminal, signals and exit code.

    Args:
        words: Arguments of the script; deploy.sh describes them.
    """
    script = str(resources.deploy_script())
    os.execv(SHELL, [SHELL, script, *words])  # noqa: S606  # no shell reads the words
