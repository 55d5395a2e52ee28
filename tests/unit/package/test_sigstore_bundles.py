"""An attestation counts if its workflow ran for a trusted repository, and was about these files."""

import base64
import copy
import hashlib
import importlib.util
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from package_samples import IDENTITY, stage
from sigstore_samples import REPOSITORY, WORKFLOW, OwnSigstore

from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError, OutputError, VerificationError
from slurm_factory.package.publish import publish
from slurm_factory.package.signatures import Trust, check, standings
from slurm_factory.package.sigstore_bundles import LARGEST_BUNDLE, check_bundles

FILES = {"x.sha256": "1" * 64, "x-manifest.json": "2" * 64}
SHARED = "https://github.com/slurm-factory/slurm-factory/.github/workflows/release.yml@refs/tags/v1"
NAMES = IDENTITY.names

Bundle = dict[str, Any]


@pytest.fixture(scope="module")
def own() -> OwnSigstore:
    return OwnSigstore()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("it asks the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def root(own: OwnSigstore, tmp_path: Path) -> Path:
    return own.trusted_root(tmp_path / "trusted_root.json")


def as_bytes(*bundles: Bundle) -> bytes:
    return b"\n".join(json.dumps(bundle).encode() for bundle in bundles)


def refused(content: bytes, root: Path | None, *identities: str) -> str:
    with pytest.raises(VerificationError) as caught:
        check_bundles(content, FILES, identities or (REPOSITORY,), root)
    assert caught.value.exit_code == 6
    assert "\n" not in caught.value.details
    return caught.value.details


@pytest.mark.parametrize("identity", [REPOSITORY, WORKFLOW])
def test_workflow_of_a_trusted_repository_counts(
    own: OwnSigstore, root: Path, identity: str
) -> None:
    found = check_bundles(as_bytes(own.attest(FILES)), FILES, [identity], root)
    assert (found.identity, found.repository) == (WORKFLOW, REPOSITORY)


def test_what_others_have_attested_with_the_same_shared_workflow_does_not_count(
    own: OwnSigstore, root: Path
) -> None:
    """The certificate of a reusable workflow has its name, whoever calls it."""
    ours = own.attest(FILES, workflow=SHARED)
    assert check_bundles(as_bytes(ours), FILES, [REPOSITORY], root).identity == SHARED
    theirs = own.attest(FILES, workflow=SHARED, repository="https://github.com/eve/slurm")
    assert "OIDCSourceRepositoryURI" in refused(as_bytes(theirs), root)
    assert "OIDCSourceRepositoryURI" in refused(as_bytes(theirs), root, SHARED)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"repository": "https://github.com/site/slurm-2"}, "OIDCSourceRepositoryURI"),
        ({"issuer": "https://accounts.example.org"}, "OIDCIssuer"),
    ],
)
def test_others_do_not_count(
    own: OwnSigstore, root: Path, changes: dict[str, str], reason: str
) -> None:
    assert reason in refused(as_bytes(own.attest(FILES, **changes)), root)


def test_another_workflow_or_ref_of_the_repository_does_not_count_where_one_is_named(
    own: OwnSigstore, root: Path
) -> None:
    branch = WORKFLOW.replace("tags/v1", "heads/attack")
    content = as_bytes(own.attest(FILES, workflow=branch))
    assert check_bundles(content, FILES, [REPOSITORY], root).identity == branch
    assert refused(content, root, WORKFLOW)


def test_it_must_be_about_every_file(own: OwnSigstore, root: Path) -> None:
    first = dict(list(FILES.items())[:1])
    assert "is about other files than this x-manifest" in refused(as_bytes(own.attest(first)), root)


def test_keys_of_another_sigstore_do_not_count(own: OwnSigstore, tmp_path: Path) -> None:
    other = OwnSigstore().trusted_root(tmp_path / "other.json")
    assert refused(as_bytes(own.attest(FILES)), other)
    assert refused(as_bytes(own.attest(FILES)), None), "the public one, from the library"


def test_one_good_bundle_among_others_is_enough(own: OwnSigstore, root: Path) -> None:
    theirs = own.attest(FILES, repository="https://github.com/eve/slurm")
    content = as_bytes(theirs, {}, own.attest(FILES))
    assert check_bundles(content, FILES, [REPOSITORY], root).repository == REPOSITORY


def other_payload(bundle: Bundle) -> None:
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["subject"][0]["digest"]["sha256"] = "3" * 64
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    bundle["dsseEnvelope"]["payload"] = payload


def other_kind(bundle: Bundle) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"


def no_log(bundle: Bundle) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def no_promise(bundle: Bundle) -> None:
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]


def other_time(bundle: Bundle) -> None:
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 3600)


def no_certificate(bundle: Bundle) -> None:
    bundle["verificationMaterial"]["certificate"]["rawBytes"] = "AAAA"


SPOILED = (other_payload, other_kind, no_log, no_promise, other_time, no_certificate)


@pytest.mark.parametrize("spoil", SPOILED)
def test_nothing_of_a_bundle_can_be_changed(
    own: OwnSigstore, root: Path, spoil: Callable[[Bundle], None]
) -> None:
    bundle = own.attest(FILES)
    assert check_bundles(as_bytes(bundle), FILES, [REPOSITORY], root)
    changed = copy.deepcopy(bundle)
    spoil(changed)
    assert refused(as_bytes(changed), root)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b'{"mediaType": 1}', b"x\n" * 1000],
)
def test_what_is_no_bundle_is_refused(root: Path, content: bytes) -> None:
    assert "no bundle" in refused(content, root)


@pytest.mark.parametrize("content", ["", "{}", "[]", "[" * 50_000])
def test_root_that_is_none_is_a_mistake_of_the_settings(
    own: OwnSigstore, tmp_path: Path, content: str
) -> None:
    (tmp_path / "root.json").write_text(content)
    with pytest.raises(ConfigurationError, match="keys of Sigstore"):
        check_bundles(as_bytes(own.attest(FILES)), FILES, [REPOSITORY], tmp_path / "root.json")


def test_without_the_library_it_says_what_to_install(
    own: OwnSigstore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="library sigstore is missing") as caught:
        check_bundles(as_bytes(own.attest(FILES)), FILES, [REPOSITORY], root)
    assert "slurm-factory[sigstore]" in caught.value.resolution


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return publish(stage(tmp_path / "work"), tmp_path / "builds/24.11")


def attest(own: OwnSigstore, package: Path, **changes: str) -> Path:
    files = {path.name: path for path in package.parent.iterdir()}
    digests = {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()}
    bundle = package.with_name(NAMES.bundle)
    bundle.write_bytes(as_bytes(own.attest(digests, **changes)))
    return bundle


def test_attested_package_may_be_used(own: OwnSigstore, root: Path, package: Path) -> None:
    trust = Trust(identities=(REPOSITORY,), root=root, required=True)
    assert standings([package], trust)[package].state == "refused"
    attest(own, package)
    found = check(package, trust)
    assert found.signature is not None
    assert (found.signature.by, found.signature.key) == (WORKFLOW, REPOSITORY)
    assert standings([package], trust)[package].state == "signed"


@pytest.mark.parametrize("name", [NAMES.software, NAMES.checksums, NAMES.manifest])
def test_attested_package_with_a_changed_file_is_refused(
    own: OwnSigstore, root: Path, package: Path, name: str
) -> None:
    attest(own, package)
    content = bytearray(package.with_name(name).read_bytes())
    content[len(content) // 2] ^= 1
    package.with_name(name).write_bytes(content)
    with pytest.raises(VerificationError):
        check(package, Trust(identities=(REPOSITORY,), root=root))


def test_bundles_are_neither_huge_nor_links(root: Path, package: Path, tmp_path: Path) -> None:
    bundle, trust = package.with_name(NAMES.bundle), Trust(identities=(REPOSITORY,), root=root)
    bundle.write_bytes(b" " * (LARGEST_BUNDLE + 1))
    with pytest.raises(OutputError):
        check(package, trust)
    bundle.unlink()
    (tmp_path / "secret").write_text("{}")
    bundle.symlink_to(tmp_path / "secret")
    with pytest.raises(OutputError):
        check(package, trust)


@pytest.mark.parametrize(
    "identity", ["github.com/a/b", "https://github.com/a", "https://github.com/a/b@refs/x", "*"]
)
def test_identities_are_repositories_or_workflows(identity: str) -> None:
    with pytest.raises(ValueError, match="trusted_identities"):
        Settings(trusted_identities=(identity,))
