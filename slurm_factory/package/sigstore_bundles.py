"""Attestations that Sigstore has signed in workflows of GitHub, checked without a network.

docs.sigstore.dev, "Bundle format", and github.com/sigstore/fulcio, docs/oid-info.md.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from slurm_factory.exceptions import ConfigurationError, VerificationError
from slurm_factory.output.text import visible
from slurm_factory.util.documents import read_limited
from slurm_factory.util.files import file_errors

if TYPE_CHECKING:
    from sigstore.models import Bundle
    from sigstore.verify import Verifier
    from sigstore.verify.policy import VerificationPolicy

GITHUB = "https://token.actions.githubusercontent.com"
IN_TOTO = "application/vnd.in-toto+json"
WORKFLOWS = "/.github/workflows/"
ALTERNATIVE_NAME = "2.5.29.17"
"""Extension of a certificate: for whom it is (RFC 5280, section 4.2.1.6)."""
LARGEST_BUNDLE = 4 << 20
"""In bytes."""
MOST_BUNDLES = 20


class _Subject(BaseModel):
    digest: dict[str, str] = {}


class _Statement(BaseModel):
    """What counts of a statement: GitHub's predicates have forms of their own."""

    subject: tuple[_Subject, ...]


class Attestation(BaseModel):
    """A good attestation.

    Attributes:
        identity: URI of the workflow that has signed.
        repository: The repository for which it ran.
        at: When.
    """

    identity: str
    repository: str
    at: datetime


def read_bundles(path: Path) -> bytes:
    """Bundles in a file (host).

    Raises:
        OutputError: It cannot be read, is a link, or is too large.
    """
    with file_errors(path, "read"):
        return read_limited(path, LARGEST_BUNDLE)


def check_bundles(
    content: bytes,
    digests: Mapping[str, str],
    identities: Sequence[str],
    root: Path | None,
) -> Attestation:
    """Who has attested files.

    Args:
        content: A bundle, or one on each line.
        digests: SHA-256 of each file that the attestation must be about, by name.
        identities: A repository on GitHub, or a workflow of one at a ref: the attestation of any of
            them counts.
        root: File (host) with the keys of another Sigstore; None: the public one.

    Raises:
        ConfigurationError: The root cannot be used, or the library is missing.
        VerificationError: Nobody of these has attested these files.
    """
    _require_library()
    accepted = {identity: _policy(identity) for identity in identities}
    verifier = _verifier(root)
    reasons: list[str] = []
    for bundle in _bundles(content):
        for identity, policy in accepted.items():
            with _refusals(reasons):
                _require_about(digests, _payload(bundle, verifier, policy))
                at = bundle.signing_certificate.not_valid_before_utc
                return Attestation(
                    identity=_signer(bundle),
                    repository=identity.partition(WORKFLOWS)[0],
                    at=at.astimezone(UTC),
                )
    raise VerificationError(
        f"The attestation of {next(iter(digests))} does not count.",
        details=f"{visible(reasons[0])}." if reasons else "There is no bundle of Sigstore in it.",
        resolution="trusted_identities names the repositories whose attestations count.",
    )


def _require_library() -> None:
    if importlib.util.find_spec("sigstore") is None:
        raise ConfigurationError(
            "Attestations cannot be checked: the library sigstore is missing.",
            details="The setting trusted_identities needs it.",
            resolution="Install it: uv tool install 'slurm-factory[sigstore]'",
        )


def _policy(identity: str) -> VerificationPolicy:
    """Always by the repository for which the workflow ran: anybody may call a workflow that others
    may reuse, and the certificate has its name then."""
    from sigstore.verify import policy  # noqa: PLC0415  # slow to import, and optional

    repository, workflow, _ = identity.partition(WORKFLOWS)
    parts: list[VerificationPolicy] = [
        policy.OIDCIssuerV2(GITHUB),
        policy.OIDCSourceRepositoryURI(repository),
    ]
    parts += [policy.Identity(identity=identity, issuer=GITHUB)] if workflow else []
    return policy.AllOf(parts)


def _verifier(root: Path | None) -> Verifier:
    from sigstore.errors import Error  # noqa: PLC0415  # slow to import, and optional
    from sigstore.models import TrustedRoot  # noqa: PLC0415
    from sigstore.verify import Verifier  # noqa: PLC0415

    try:
        if root is None:
            return Verifier.production(offline=True)
        return Verifier(trusted_root=TrustedRoot.from_file(str(root)))
    except (Error, OSError, ValueError, ValidationError) as error:
        raise ConfigurationError(
            f"The keys of Sigstore cannot be used: {root or 'those of the library'}.",
            details=f"{type(error).__name__}: {visible(str(error)[:200])}",
            resolution="Get trusted_root.json of that Sigstore again, or unset sigstore_root.",
        ) from error


def _bundles(content: bytes) -> Iterator[Bundle]:
    from sigstore.errors import Error  # noqa: PLC0415  # slow to import, and optional
    from sigstore.models import Bundle  # noqa: PLC0415

    lines = content.splitlines()
    texts = lines if lines and lines[0].rstrip().endswith(b"}") else [content]
    for text in texts[:MOST_BUNDLES]:
        try:
            yield Bundle.from_json(text)
        except (Error, ValueError, TypeError, LookupError, RecursionError):
            # Whatever it is, it is no bundle.
            continue


@contextmanager
def _refusals(reasons: list[str]) -> Iterator[None]:
    """Note why an attestation does not count; what is wrong with its certificate is said last."""
    from sigstore.errors import Error  # noqa: PLC0415  # slow to import, and optional

    try:
        yield
    except (Error, ValueError, TypeError, LookupError, RecursionError) as error:
        reasons.append(str(error)[:300] or type(error).__name__)


def _payload(bundle: Bundle, verifier: Verifier, policy: VerificationPolicy) -> bytes:
    kind, payload = verifier.verify_dsse(bundle, policy)
    if kind != IN_TOTO:
        raise ValueError(f"it is of the kind {kind}")
    return payload


def _require_about(digests: Mapping[str, str], payload: bytes) -> None:
    attested = {
        subject.digest.get("sha256") for subject in _Statement.model_validate_json(payload).subject
    }
    for name, sha256 in digests.items():
        if sha256 not in attested:
            raise ValueError(f"it is about other files than this {name}")


def _signer(bundle: Bundle) -> str:
    names = [
        name.value
        for extension in bundle.signing_certificate.extensions
        if extension.oid.dotted_string == ALTERNATIVE_NAME
        for name in extension.value
    ]
    return visible(", ".join(map(str, names)))
