"""Signatures of a package: `sign` makes them, `check` decides whether a package may be used.

Signed are the checksums, which cover the tarballs, the SBOM and the provenance, and the manifest.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from slurm_factory.config_types import KEY_NAME
from slurm_factory.exceptions import ConfigurationError, OutputError, VerificationError
from slurm_factory.package.file_names import MANIFEST_END, SIGNATURE_END, FileNames, file_names
from slurm_factory.package.gpg import (
    Keyring,
    Signer,
    open_keyring,
    read_signature,
    require_key,
    sign_file,
    users_keyring,
)
from slurm_factory.package.manifest import Manifest, load_manifest, parse_manifest
from slurm_factory.package.provenance import check_provenance
from slurm_factory.package.publish import locked, problem_with
from slurm_factory.package.sigstore_bundles import check_bundles, read_bundles
from slurm_factory.util.documents import read_limited
from slurm_factory.util.files import file_errors
from slurm_factory.util.hints import quoted

if TYPE_CHECKING:
    from slurm_factory.config import Settings

LARGEST = 64 << 20
"""Of a manifest or a file with checksums, in bytes."""
COPY_AGAIN = "Copy all files of the build again."


@dataclass(frozen=True)
class Trust:
    """Whose signatures count.

    Attributes:
        keys: File or directory (host) with public keys; None: nobody's.
        identities: Repositories on GitHub whose attestations count.
        root: Keys of another Sigstore (host); None: those of the public one.
        required: Refuse packages without a signature that counts.
    """

    keys: Path | None = None
    identities: tuple[str, ...] = ()
    root: Path | None = None
    required: bool = False


@dataclass(frozen=True)
class Signature:
    """A good signature of a whole package, by somebody who is trusted.

    Attributes:
        by: Name of who has signed: the user id of a key, or the URI of a workflow.
        key: Fingerprint of the key, or the repository for which the workflow ran.
        at: When.
    """

    by: str
    key: str
    at: datetime

    @property
    def brief(self) -> str:
        """For one line."""
        return f"{self.by} ({self.key}), {self.at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class Checked:
    """A package that may be used.

    Attributes:
        manifest: Its manifest, as it was signed.
        signature: Who has signed it; None: nobody whose signatures count, and nobody has to.
    """

    manifest: Manifest
    signature: Signature | None


def trust_of(settings: Settings) -> Trust:
    """Whose signatures count at this site.

    Raises:
        ConfigurationError: A signature is required, and nobody is trusted.
    """
    trust = Trust(
        settings.trusted_keys,
        settings.trusted_identities,
        settings.sigstore_root,
        required=settings.require_signature,
    )
    if trust.required and not (trust.keys or trust.identities):
        raise ConfigurationError(
            "A signature is required (require_signature), and nobody's would count.",
            details="Neither trusted_keys nor trusted_identities is set.",
            resolution="Set trusted_keys to a file with public keys.",
        )
    return trust


def choose_key(asked: str, settings: Settings) -> str:
    """The key to sign with, after a trial; empty: nothing is to be signed.

    Args:
        asked: What --sign names, if anything.
        settings: Settings of this site.

    Raises:
        ConfigurationError: There is no such key, or it cannot be used.
        LXDError: gpg is missing, or its agent has no passphrase.
    """
    if asked and not KEY_NAME.fullmatch(asked):
        raise ConfigurationError(
            f"--sign: {quoted(asked)} names no key.",
            resolution="Name a key of the keyring, best by its fingerprint: gpg --list-secret-keys",
        )
    key = asked or settings.sign_key or ""
    if key:
        require_key(key)
    return key


def sign(package: Path, key: str) -> Path:
    """Sign a finished package, in place of what was signed before.

    Args:
        package: Its manifest (host).
        key: Names a secret key in the user's keyring; `choose_key` tries it beforehand.

    Returns:
        The signature of the manifest.

    Raises:
        ConfigurationError: There is no such key, or it cannot be used.
        LXDError: gpg is missing, or its agent has no passphrase.
        OutputError: The package is damaged, or a file cannot be written.
    """
    directory = package.parent
    with file_errors(package), locked(directory):
        manifest = load_manifest(package)
        if problem := problem_with(manifest, directory):
            raise OutputError(
                f"{manifest.identity.stem} is not signed.",
                details=f"It is damaged: {problem}.",
                resolution="Build it again, or copy all its files again.",
            )
        names = manifest.identity.names
        with tempfile.TemporaryDirectory(prefix=".signing-", dir=directory) as name:
            made = []
            for signed in (names.checksums, names.manifest):
                made.append(Path(name) / f"{signed}{SIGNATURE_END}")
                sign_file(directory / signed, key, made[-1])
                made[-1].chmod(0o644)
            for signature in made:
                signature.replace(directory / signature.name)
    return directory / names.manifest_signature


def is_signed_with(package: Path, key: str) -> bool:
    """Whether a key of the user's keyring has signed a package as it is.

    Args:
        package: Its manifest (host).
        key: Names the key, as for `sign`.

    Raises:
        ConfigurationError: There is no such key, or it cannot be used.
        LXDError: gpg is missing, or its agent has no passphrase.
    """
    fingerprint = require_key(key)
    names = load_manifest(package).identity.names
    try:
        contents = _read(names, package.parent)
        signers = _signers(names, package.parent, contents, users_keyring())
    except (OutputError, VerificationError):
        return False
    return all(signer.subkey == fingerprint for signer in signers)


def has_signature(package: Path) -> bool:
    """Whether a manifest (host) has a signature, by whomever."""
    names = file_names(package.name.removesuffix(MANIFEST_END))
    signatures = (names.manifest_signature, names.bundle)
    return any((package.parent / name).exists() for name in signatures)


@dataclass(frozen=True)
class Standing:
    """What can be said about the signature of a package.

    Attributes:
        state: `signed` by somebody who is trusted; `unsigned`; `unchecked`, because nobody is
            trusted; `refused`.
        signature: Who has signed it.
        problem: Why it is refused.
    """

    state: Literal["signed", "unsigned", "unchecked", "refused"]
    signature: Signature | None = None
    problem: str = ""


def standings(packages: Iterable[Path], trust: Trust) -> dict[Path, Standing]:
    """What can be said about the signatures of packages, whose other files are not read.

    Args:
        packages: Their manifests (host).
        trust: Whose signatures count.

    Raises:
        ConfigurationError: The trusted keys cannot be used.
        LXDError: gpg is missing.
    """
    with open_judge(trust) as judge:
        return {package: _standing(package, judge) for package in packages}


def require_none_refused(found: Mapping[Path, Standing]) -> None:
    """Do nothing if no package is refused.

    Args:
        found: What can be said about packages, by their manifests (host).

    Raises:
        VerificationError: One is refused.
    """
    refused = {path: each for path, each in found.items() if each.state == "refused"}
    for path, each in refused.items():
        raise VerificationError(
            f"{path.name.removesuffix(MANIFEST_END)} is refused.",
            details=each.problem,
            resolution="The settings trusted_keys, trusted_identities and require_signature decide"
            " whose signatures count.",
        )


def _standing(package: Path, judge: Judge) -> Standing:
    try:
        signature = judge.look(package).signature
    except (OutputError, VerificationError) as error:
        return Standing("refused", problem=error.brief)
    if signature:
        return Standing("signed", signature)
    return Standing("unchecked" if has_signature(package) else "unsigned")


@contextmanager
def open_judge(trust: Trust) -> Iterator[Judge]:
    """What decides whether packages may be used.

    Raises:
        ConfigurationError: The trusted keys cannot be used.
        LXDError: gpg is missing.
    """
    with ExitStack() as stack:
        keyring = stack.enter_context(open_keyring(trust.keys)) if trust.keys else None
        yield Judge(trust, keyring)


def check(package: Path, trust: Trust) -> Checked:
    """`Judge.check` of one package."""
    with open_judge(trust) as judge:
        return judge.check(package)


class Judge:
    """Decides whether packages may be used.

    Args:
        trust: Whose signatures count.
        keyring: Their keys; None where no keys are trusted.
    """

    def __init__(self, trust: Trust, keyring: Keyring | None) -> None:
        self._trust, self._keyring = trust, keyring

    def check(self, package: Path) -> Checked:
        """Check the signatures of a package, and that all its files are those that were signed.

        Args:
            package: Its manifest (host).

        Raises:
            LXDError: gpg is missing.
            OutputError: A file cannot be read.
            VerificationError: The package is to be refused.
        """
        checked = self.look(package)
        if problem := problem_with(checked.manifest, package.parent):
            raise VerificationError(
                f"{checked.manifest.identity.stem} is damaged.",
                details=f"{problem}.",
                resolution=COPY_AGAIN,
            )
        check_provenance(checked.manifest, package.parent)
        return checked

    def look(self, package: Path) -> Checked:
        """Check the signatures alone, without reading the tarballs; raises as `check` does."""
        names, directory = file_names(package.name.removesuffix(MANIFEST_END)), package.parent
        present = [name for name in names.signatures if (directory / name).exists()]
        by_key = [name for name in present if name != names.bundle] if self._keyring else []
        by_identity = names.bundle in present and bool(self._trust.identities)
        if not by_key and not by_identity:
            if self._trust.required:
                raise _unsigned(names, present)
            return Checked(load_manifest(package), None)
        contents = _read(names, directory)
        found = []
        if by_key and self._keyring:
            signer = _signers(names, directory, contents, self._keyring)[-1]
            found.append(Signature(signer.name, signer.fingerprint, signer.at))
        if by_identity:
            found.append(self._attested(names, directory, contents))
        manifest = parse_manifest(contents[names.manifest], package)
        _require_agreement(manifest, names, contents[names.checksums])
        return Checked(manifest, found[0])

    def _attested(
        self, names: FileNames, directory: Path, contents: Mapping[str, bytes]
    ) -> Signature:
        attestation = check_bundles(
            read_bundles(directory / names.bundle),
            {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
            self._trust.identities,
            self._trust.root,
        )
        return Signature(attestation.identity, attestation.repository, attestation.at)


def _unsigned(names: FileNames, present: Sequence[str]) -> VerificationError:
    details = "There is neither a signature of a key nor one of Sigstore beside it."
    if present:
        details = f"{present[0]} does not count: no key or identity of its kind is trusted here."
    return VerificationError(
        f"{names.manifest} has no signature that counts.",
        details=details,
        resolution="The setting require_signature demands one. Take a package that is signed, or"
        " sign one of yours: slurm-factory build … --sign KEY",
    )


def _read(names: FileNames, directory: Path) -> dict[str, bytes]:
    """The files that are signed themselves: what is checked must be what is used."""
    contents = {}
    for name in (names.checksums, names.manifest):
        with file_errors(directory / name, "read"):
            contents[name] = read_limited(directory / name, LARGEST)
    return contents


def _signers(
    names: FileNames, directory: Path, contents: Mapping[str, bytes], keyring: Keyring
) -> list[Signer]:
    """Who has signed the checksums, and who the manifest."""
    signers = []
    for name, content in contents.items():
        signature = directory / f"{name}{SIGNATURE_END}"
        if not signature.exists():
            raise VerificationError(
                f"{name} is not signed.",
                details=f"{signature.name} is missing; other files of {names.manifest} are signed.",
                resolution=COPY_AGAIN,
            )
        signers.append(keyring.check(content, read_signature(signature), name))
    return signers


def _require_agreement(manifest: Manifest, names: FileNames, checksums: bytes) -> None:
    """Two good signatures may be of two packages."""
    listed = {file.name: file.sha256 for file in manifest.files}
    of_checksums = listed.get(names.checksums) == hashlib.sha256(checksums).hexdigest()
    if manifest.identity.names != names or not of_checksums:
        raise VerificationError(
            f"{names.manifest} and {names.checksums} are of two packages.",
            details="Each is signed, but they do not belong together.",
            resolution=COPY_AGAIN,
        )
