"""The index of a store: what it has, and where."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from slurm_factory.constants import JSON_VERSION
from slurm_factory.exceptions import DownloadError
from slurm_factory.package.manifest import File, Manifest, PackageIdentity, Record
from slurm_factory.plan.advisories import Advisory, known_advisories, suspected_advisories
from slurm_factory.util.documents import parse_json

INDEX = "index.json"
PACKAGES = "packages"
LARGEST_INDEX = 64 << 20
"""Limits in bytes: 100,000 packages have about 300 MB, those of a site a thousandth of it."""
LARGEST_FILE = 4 << 30
LONGEST_STEM = 200
"""Names of files have at most 255 bytes."""
VERSION = re.compile(r"[0-9][0-9A-Za-z._+~-]*")
"""As `clean` knows the directories of builds."""
DIGITS = 16
"""Of the checksum in a path."""
LONGEST_TEXT = 200
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
GlibcVersion = Annotated[str, StringConstraints(pattern=r"^([0-9]{1,4}(\.[0-9]{1,4}){0,3})?$")]
"""Empty: any."""


class StoredPackage(Record):
    """A package in a store, as it was when it was published."""

    identity: PackageIdentity
    """Which package this is."""
    created: AwareDatetime
    """When it was built."""
    published: AwareDatetime
    """When it came into the store."""
    variants: dict[Text, bool]
    """Features that were added (true) or removed."""
    glibc: GlibcVersion
    """The oldest glibc that it runs with."""
    advisories: tuple[Text, ...]
    """Known advisories of its Slurm when it was published."""
    suspected: tuple[Text, ...]
    """Those of that time that nobody had confirmed."""
    fixed: tuple[Text, ...]
    """Those that its patches fix."""
    verified_on: tuple[Text, ...]
    """Distributions on which clusters ran from it, as the store says; `fetch` checks it."""
    manifest: File
    """The manifest, which has the checksums of the others."""
    files: Annotated[tuple[File, ...], Field(min_length=1)]
    """The other files."""

    @model_validator(mode="after")
    def _is_harmless(self) -> Self:
        """Names of files become paths, and sizes are what is read from the network."""
        identity, names = self.identity, self.identity.names
        if not identity.stem.startswith("slurm-") or len(identity.stem) > LONGEST_STEM:
            raise ValueError("The name of a package is wrong.")
        texts = identity.model_dump(mode="json").values()
        if any(isinstance(text, str) and len(text) > LONGEST_TEXT for text in texts):
            raise ValueError("The identity of a package is too long.")
        if VERSION.fullmatch(identity.version) is None:
            raise ValueError("The version of a package is wrong.")
        listed = [file.name for file in self.all_files]
        if self.manifest.name != names.manifest or names.software not in listed:
            raise ValueError("A package has no manifest, or no software.")
        if len({*listed}) < len(listed) or not {*listed} <= {*names}:
            raise ValueError("A package has a file of a wrong name.")
        if any(not 0 <= file.size <= LARGEST_FILE for file in self.all_files):
            raise ValueError("The size of a file is wrong.")
        return self

    @property
    def stem(self) -> str:
        """Its name."""
        return self.identity.stem

    @property
    def all_files(self) -> tuple[File, ...]:
        """Its files, the manifest last."""
        return (*self.files, self.manifest)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.all_files)

    @property
    def content(self) -> str:
        """Checksum of the names and checksums of all files: packages with the same are the same."""
        lines = sorted(f"{file.sha256}  {file.name}\n" for file in self.all_files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def directory(self) -> PurePosixPath:
        """Where its files lie below a store of files; packages of other content lie elsewhere."""
        return PurePosixPath(PACKAGES, self.stem, self.content[:DIGITS])

    @property
    def has_signature(self) -> bool:
        """Whether it has a signature, by whomever."""
        names = self.identity.names
        signatures = {names.manifest_signature, names.bundle}
        return any(file.name in signatures for file in self.files)

    def record_contradicts(self, manifest: Manifest) -> bool:
        """Whether its record of a verification is another one than the manifest names."""
        named = manifest.verified.record if manifest.verified else None
        return named is not None and any(
            file.name == named.name and file != named for file in self.files
        )

    @property
    def upstream_release(self) -> str:
        """The release of Slurm without the suffix of patches."""
        return self.identity.release.partition("+")[0]

    def advisories_now(self) -> tuple[Advisory, ...]:
        """Advisories that are known of it today."""
        return known_advisories(self.upstream_release, self.fixed)

    def suspected_now(self) -> tuple[Advisory, ...]:
        """Advisories of today that nobody has confirmed."""
        return suspected_advisories(self.upstream_release, self.fixed)


class Index(Record):
    """All packages of a store."""

    index_version: Literal[1] = JSON_VERSION
    """Version of this document."""
    packages: tuple[StoredPackage, ...] = ()

    @model_validator(mode="after")
    def _has_each_once(self) -> Self:
        if len({package.stem for package in self.packages}) < len(self.packages):
            raise ValueError("A package is there twice.")
        return self

    def find(self, stem: str) -> StoredPackage | None:
        """The package of this name."""
        return next((each for each in self.packages if each.stem == stem), None)

    def with_packages(self, packages: Iterable[StoredPackage]) -> Index:
        """With packages, which replace those of the same names."""
        merged = {each.stem: each for each in (*self.packages, *packages)}
        return Index(packages=tuple(merged[stem] for stem in sorted(merged)))

    def without(self, stems: Collection[str]) -> Index:
        """Without packages of these names."""
        return Index(packages=tuple(each for each in self.packages if each.stem not in stems))

    def older_than_newest(self, keep: int) -> tuple[StoredPackage, ...]:
        """All but the newest packages of each series and kind, as `clean --keep` groups them."""
        kinds: dict[tuple[str, str], list[StoredPackage]] = {}
        for package in self.packages:
            kinds.setdefault(package.identity.kind, []).append(package)
        newest_first = (
            sorted(group, key=lambda each: (each.created, each.stem), reverse=True)
            for group in kinds.values()
        )
        return tuple(package for group in newest_first for package in group[keep:])

    def as_bytes(self) -> bytes:
        """The document."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def describe_package(
    manifest: Manifest,
    written: File,
    files: tuple[File, ...],
    *,
    published: AwareDatetime,
) -> StoredPackage:
    """The entry of a package.

    Args:
        manifest: Its manifest.
        written: The file with that.
        files: Its other files.
        published: Now.
    """
    variants = manifest.plan.get("variants")
    fixed = manifest.security.fixed if manifest.security else ()
    release = manifest.identity.release.partition("+")[0]
    return StoredPackage(
        identity=manifest.identity,
        created=manifest.created,
        published=published,
        variants={name: bool(on) for name, on in variants.items()}
        if isinstance(variants, dict)
        else {},
        glibc=manifest.glibc,
        advisories=tuple(each.id for each in known_advisories(release, fixed)),
        suspected=tuple(each.id for each in suspected_advisories(release, fixed)),
        fixed=fixed,
        verified_on=manifest.verified.on if manifest.verified else (),
        manifest=written,
        files=files,
    )


def parse_index(content: bytes | None, shown: str) -> Index:
    """The index of a store; nothing is trusted in it.

    Args:
        content: The document; None: the store is empty.
        shown: URL of the store without credentials.

    Raises:
        DownloadError: It is broken, or has a version that this slurm-factory does not know.
    """
    if content is None:
        return Index()
    try:
        version = parse_json(content)["index_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(
            shown, "It is not an index of slurm-factory, or only a part of one"
        ) from error
    if version != JSON_VERSION:
        raise DownloadError(
            f"The index of {shown} has another version than {JSON_VERSION}.",
            details="Another slurm-factory wrote it.",
            resolution="Use that one, or a newer one: uv tool upgrade slurm-factory",
        )
    try:
        return Index.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        why = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise _broken(shown, f"{where}: {why}" if where else why) from error


def names_files_of(package: StoredPackage, content: bytes | None, shown: str) -> bool:
    """Whether an index names this very package."""
    named = parse_index(content, shown).find(package.stem)
    return named is not None and named.content == package.content


def _broken(shown: str, why: str) -> DownloadError:
    return DownloadError(
        f"The index of {shown} is broken.",
        details=f"{why}.",
        resolution=f"Restore {INDEX} there, or remove it and publish the packages again.",
    )
