"""The package that is verified: a build, a manifest, or a tarball that anybody has made."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.exceptions import ConfigurationError, OutputError, VerificationError
from slurm_factory.findings import select
from slurm_factory.package.file_names import MANIFEST_END, SOFTWARE_END
from slurm_factory.package.manifest import Manifest, load_manifest
from slurm_factory.package.publish import find_artifacts
from slurm_factory.package.signatures import open_judge
from slurm_factory.util.hints import quoted

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.package.signatures import Signature, Trust

TARBALL = re.compile(r"(-software)?(\.tar\.gz|\.tgz)$")


@dataclass(frozen=True)
class Package:
    """A package on this machine (host paths). Nothing in its files is trusted.

    Attributes:
        stem: Its name, and the start of its file names.
        software: The tarball with the tree.
        module: The tarball with the module files, if there is one.
        manifest: Content of the manifest, if there is one.
        manifest_path: The manifest.
        signature: Who has signed it, where somebody has whose signatures count.
    """

    stem: str
    software: Path
    module: Path | None = None
    manifest: Manifest | None = None
    manifest_path: Path | None = None
    signature: Signature | None = None


@dataclass(frozen=True)
class Located:
    """What somebody names (host paths).

    Attributes:
        path: The manifest; without one, the tarball.
        manifest: Content of the manifest, if there is one.
        software: The tarball with the tree, if it is there.
    """

    path: Path
    manifest: Manifest | None
    software: Path | None


def locate(word: str, settings: Settings) -> Located:
    """The manifest or tarball that somebody names, and the other one if it lies beside.

    Args:
        word: Path (host) of a manifest or of a tarball with a tree, or a name as `list` prints it.
        settings: For the directory of builds.

    Raises:
        ConfigurationError: There is no such package.
        OutputError: Its manifest cannot be used.
    """
    path, listed = Path(word), Path(f"{word}{MANIFEST_END}")
    if TARBALL.search(word) and path.is_file():
        beside = path.with_name(path.name.removesuffix(SOFTWARE_END) + MANIFEST_END)
        if path.name.endswith(SOFTWARE_END) and beside.is_file():
            return _beside(beside)
        return Located(path, None, path)
    if path.is_file() and word.endswith(".json"):
        return _beside(path)
    if "/" in word and listed.is_file():
        return _beside(listed)
    if "/" in word:
        raise ConfigurationError(
            f"There is no package {quoted(word)}.",
            details="It is neither a manifest nor a tarball (.tar.gz)."
            if path.exists()
            else "No such file.",
            resolution="Name a build, a manifest or a tarball: slurm-factory list shows builds.",
        )
    return _beside(select(find_artifacts(settings.builds_dir), [word])[0].path)


def _beside(path: Path) -> Located:
    manifest = load_manifest(path)
    software = path.with_name(manifest.identity.software_tarball)
    return Located(path, manifest, software if software.is_file() else None)


def find_package(word: str, settings: Settings) -> Package:
    """The package that somebody names, with its tree.

    Args:
        word: Path (host) of a manifest or of a tarball with a tree, or a name as `list` prints it.
        settings: For the directory of builds.

    Raises:
        ConfigurationError: There is no such package.
        OutputError: Its manifest cannot be used, or its tarball is missing.
    """
    found = locate(word, settings)
    path, manifest, software = found.path, found.manifest, found.software
    if manifest is None:
        return Package(_stem(path.name), path)
    identity = manifest.identity
    if software is None:
        raise OutputError(
            f"The package {identity.stem} has no {identity.software_tarball}.",
            details=f"It is not beside its manifest {path}.",
            resolution="Put both into one directory.",
        )
    module = path.with_name(identity.module_tarball)
    return Package(identity.stem, software, module if module.is_file() else None, manifest, path)


def find_trusted(word: str, settings: Settings, trust: Trust) -> Package:
    """The package that somebody names, by the manifest that was signed.

    Args:
        word: As for `find_package`.
        settings: For the directory of builds.
        trust: Whose signatures count.

    Raises:
        ConfigurationError: There is no such package, or the trusted keys cannot be used.
        LXDError: gpg is missing.
        OutputError: Its manifest cannot be used, or its tarball is missing.
        VerificationError: It is to be refused.
    """
    try:
        package = find_package(word, settings)
    except (ConfigurationError, OutputError):
        # A changed manifest may be unreadable, or name other files: the signature says more.
        with open_judge(trust) as judge:
            for path in _manifests(word, settings):
                judge.look(path)
        raise
    if package.manifest_path is None:
        if trust.required:
            raise VerificationError(
                f"{package.stem} is not signed.",
                details="It has no manifest, which would be signed.",
                resolution="Copy all files of a signed package, or unset require_signature.",
            )
        return package
    with open_judge(trust) as judge:
        checked = judge.look(package.manifest_path)
        if checked.signature:
            checked = judge.check(package.manifest_path)
    return replace(package, manifest=checked.manifest, signature=checked.signature)


def _manifests(word: str, settings: Settings) -> list[Path]:
    """The manifests that somebody may mean."""
    stem = word.removesuffix(MANIFEST_END).removesuffix(SOFTWARE_END)
    paths = [Path(f"{stem}{MANIFEST_END}")]
    if "/" not in word:
        paths += settings.builds_dir.glob(f"*/{glob.escape(stem)}{MANIFEST_END}")
    return [path for path in paths if path.is_file()]


def _stem(name: str) -> str:
    """A name for files of a tarball that may be called anything."""
    return re.sub(r"[^A-Za-z0-9._+~-]", "-", TARBALL.sub("", name)).lstrip("-._+~") or "package"
