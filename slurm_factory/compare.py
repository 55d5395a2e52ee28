"""Two packages side by side: versions, sizes, features, advisories and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import ValidationError

from slurm_factory.exceptions import VerificationError
from slurm_factory.findings import report
from slurm_factory.package.licenses import IDENTITY
from slurm_factory.package.manifest import Manifest, PackageIdentity
from slurm_factory.package.publish import PublishedArtifact, describe
from slurm_factory.relocate.names import PRIVATE, untagged
from slurm_factory.util.files import file_errors
from slurm_factory.util.tar_stream import list_tarball
from slurm_factory.verify.package import Located, locate

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter

T = TypeVar("T")
TOP = "software"
"""Directory in a tarball of ours; those of others may have another one."""


@dataclass(frozen=True)
class Lookup:
    """Where to look up advisories of libraries, if anywhere (`findings.report`)."""

    libraries: bool = False
    osv: str = ""
    offline: bool = False


@dataclass(frozen=True)
class Side:
    """One of two packages. What nothing says about it is None.

    Attributes:
        name: Its name, or that of its tarball.
        path: The manifest, or the tarball of a package without one (host).
        manifest: Content of the manifest.
        identity: As the manifest or the tree says.
        size: Size of the tarball with the tree, in bytes.
        features: What it contains.
        components: Versions of each bundled source package, by its name.
        advisories: What is known against it, with a summary where it is one of Slurm.
        files: Size of each file and link in the tree by its path, without tags of libraries.
    """

    name: str
    path: Path
    manifest: Manifest | None
    identity: PackageIdentity | None
    size: int
    features: tuple[str, ...] | None
    components: Mapping[str, tuple[str, ...]] | None
    advisories: Mapping[str, str] | None
    files: Mapping[str, int] | None

    @property
    def unpacked(self) -> int | None:
        """Size of all files in bytes."""
        return None if self.files is None else sum(self.files.values())


@dataclass(frozen=True)
class Change(Generic[T]):
    """What one name has on both sides; None: the side does not have it."""

    name: str
    a: T | None
    b: T | None


@dataclass(frozen=True)
class Comparison:
    """What has changed from one package to another.

    Attributes:
        a: The first package.
        b: The second one.
        features: Those that are only in one of them; None: unknown.
        components: Those whose versions differ; None: unknown.
        advisories: Those that are only known against one of them; None: unknown.
        files: Those that are only in one of them, or whose sizes differ; None: unknown.
    """

    a: Side
    b: Side
    features: tuple[Change[str], ...] | None
    components: tuple[Change[tuple[str, ...]], ...] | None
    advisories: tuple[Change[str], ...] | None
    files: tuple[Change[int], ...] | None


def compare(
    words: Sequence[str], settings: Settings, reporter: Reporter, lookup: Lookup
) -> Comparison:
    """Compare two packages.

    Args:
        words: Two packages: names as `list` prints them, or paths (host) of manifests or tarballs.
        settings: For the directory of builds, and the data of advisories.
        reporter: Gets a warning for libraries that nothing can be said about.
        lookup: Where to look up advisories of libraries.

    Raises:
        ConfigurationError: There is no such package.
        DownloadError: Data of advisories cannot be fetched, and there is no copy.
        OutputError: A file cannot be read.
        VerificationError: A tarball is not what its manifest says, or no package makes such a one.
    """
    a, b = (_look_at(locate(word, settings), settings, reporter, lookup) for word in words)
    return Comparison(
        a,
        b,
        _changes(_by_name(a.features), _by_name(b.features)),
        _changes(a.components, b.components),
        _changes(a.advisories, b.advisories, only_names=True),
        _changes(a.files, b.files),
    )


def _changes(
    a: Mapping[str, T] | None, b: Mapping[str, T] | None, *, only_names: bool = False
) -> tuple[Change[T], ...] | None:
    if a is None or b is None:
        return None
    names = a.keys() ^ b.keys() if only_names else a.keys() | b.keys()
    return tuple(
        Change(name, a.get(name), b.get(name))
        for name in sorted(names)
        if a.get(name) != b.get(name)
    )


def _by_name(names: Sequence[str] | None) -> dict[str, str] | None:
    return None if names is None else {name: name for name in names}


def _look_at(found: Located, settings: Settings, reporter: Reporter, lookup: Lookup) -> Side:
    manifest, files, identity = found.manifest, None, None
    if found.software:
        if manifest:
            _require_match(found.software, manifest)
        files, identity = _files(found.software)
    if manifest is None:
        name = identity.stem if identity else found.path.name
        with file_errors(found.path, "read"):
            size = found.path.stat().st_size
        return Side(name, found.path, None, identity, size, None, None, None, files)
    (known,) = report(
        [PublishedArtifact(found.path, manifest, "")],
        settings,
        reporter,
        look_up=lookup.libraries or bool(lookup.osv),
        osv=lookup.osv,
        offline=lookup.offline,
    )
    versions: dict[str, list[str]] = {}
    for library in known.libraries:
        versions.setdefault(library.name, []).append(library.version)
    advisories = {each.id: each.summary for each in known.advisories}
    for library in known.libraries:
        advisories |= {f.id: f"in {library.name}" for f in library.findings or ()}
    return Side(
        name=manifest.identity.stem,
        path=found.path,
        manifest=manifest,
        identity=manifest.identity,
        size=manifest.files[0].size,
        features=manifest.features,
        components={name: tuple(sorted(each)) for name, each in versions.items()},
        advisories=advisories,
        files=files,
    )


def _require_match(tarball: Path, manifest: Manifest) -> None:
    """Another tarball than that of the manifest would make each file a change."""
    told = {file.name: file.sha256 for file in manifest.files}
    with file_errors(tarball, "read"):
        sha256 = describe(tarball).sha256
    if sha256 != told.get(tarball.name):
        raise VerificationError(
            f"{tarball} does not match its manifest.",
            details="Its checksum is another one.",
            resolution="Copy both files again from where the package was built.",
        )


def _files(tarball: Path) -> tuple[dict[str, int], PackageIdentity | None]:
    """The files of a tree, and what it says that it is."""
    try:
        sizes, contents = list_tarball(tarball, (f"{TOP}/{IDENTITY}",))
    except VerificationError as error:
        raise VerificationError(
            f"The tarball {tarball} is refused.",
            details=error.details,
            resolution="No package is so. Find out who made the file, and do not unpack it.",
        ) from error
    identity = None
    for content in contents.values():
        try:
            identity = PackageIdentity.model_validate_json(content)
        except ValidationError:
            # A tree of somebody else, or of another version.
            continue
    return _without_tags(_below_top(sizes)), identity


def _below_top(sizes: Mapping[str, int]) -> dict[str, int]:
    """Paths in the tree, which is one directory in the archive."""
    tops = {name.partition("/")[0] for name in sizes}
    if len(tops) != 1 or any("/" not in name for name in sizes):
        return dict(sizes)
    return {name.partition("/")[2]: size for name, size in sizes.items()}


def _without_tags(sizes: Mapping[str, int]) -> dict[str, int]:
    """Bundled libraries by their original names, as far as each is there once only.

    Their tags change with every bit: a library that was only compiled again is no other file.
    """
    plain = {
        name: str(Path(name).with_name(untagged(Path(name).name)))
        for name in sizes
        if Path(name).parent == Path(PRIVATE)
    }
    often = Counter(plain.get(name, name) for name in sizes)
    return {
        own if often[own := plain.get(name, name)] == 1 else name: size
        for name, size in sizes.items()
    }
