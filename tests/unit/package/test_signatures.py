"""A signature counts if it is whole, of a key that is trusted, and about this very package."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gpg_samples import LONG_AGO, PASSPHRASE, GpgHome, agents_of, gpg_home
from package_samples import IDENTITY, publish_package, stage

from slurm_factory.config import Settings
from slurm_factory.exceptions import (
    ConfigurationError,
    LXDError,
    OutputError,
    SlurmFactoryError,
    VerificationError,
)
from slurm_factory.package import gpg
from slurm_factory.package.file_names import FileNames
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.publish import publish
from slurm_factory.package.signatures import (
    Trust,
    check,
    has_signature,
    is_signed_with,
    sign,
    trust_of,
)

ALICE, BOB, CAROL, DAVE, LOCKED = (
    f"{name} <{name.lower()}@example.org>" for name in ("Alice", "Bob", "Carol", "Dave", "Locked")
)
NAMES: FileNames = IDENTITY.names


@pytest.fixture(scope="module")
def keys() -> Iterator[GpgHome]:
    """Keys: of Alice and Bob; Carol's has expired, Dave's is revoked; one with a passphrase."""
    with gpg_home() as home:
        for name in (ALICE, BOB, DAVE):
            home.make_key(name)
        home.make_key(CAROL, expires="seconds=3600")
        home.make_key(LOCKED, passphrase=PASSPHRASE)
        yield home


@pytest.fixture(autouse=True)
def own_keyring(keys: GpgHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNUPGHOME", str(keys.path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A finished package, by its manifest."""
    return publish(stage(tmp_path / "work"), tmp_path / "builds/24.11")


@dataclass(frozen=True)
class Trusted:
    """What a site trusts: public keys in a file."""

    directory: Path
    keys: GpgHome

    def __call__(self, *names: str, required: bool = True) -> Trust:
        file = self.directory / "trusted.asc"
        file.write_text(self.keys.export(*names))
        return Trust(file, required=required)


@pytest.fixture
def trusting(tmp_path: Path, keys: GpgHome) -> Trusted:
    return Trusted(tmp_path, keys)


def refused(package: Path, trust: Trust) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        check(package, trust)
    assert caught.value.exit_code == 6
    assert caught.value.details
    assert caught.value.resolution
    return caught.value


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_who_has_signed_and_when_is_known_without_the_users_keyring(
    package: Path, trusting: Trusted, keys: GpgHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    sign(package, ALICE)
    trust = trusting(ALICE)
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "none"))
    found = check(package, trust)
    assert found.signature is not None
    assert (found.signature.by, found.signature.key) == (ALICE, keys.fingerprint(ALICE))
    assert before <= found.signature.at <= datetime.now(UTC)
    assert found.manifest == load_manifest(package)
    assert not (tmp_path / "none").exists()


def test_signing_leaves_nothing_but_signatures_that_everybody_may_read(package: Path) -> None:
    before = {path.name for path in package.parent.iterdir()}
    sign(package, ALICE)
    signatures = {NAMES.checksums_signature, NAMES.manifest_signature}
    assert {path.name for path in package.parent.iterdir()} == before | signatures
    for name in signatures:
        assert (package.parent / name).stat().st_mode & 0o777 == 0o644
        assert (package.parent / name).read_text().startswith("-----BEGIN PGP SIGNATURE-----")


def test_gpg_alone_finds_the_signatures_good(package: Path, keys: GpgHome) -> None:
    sign(package, ALICE)
    for name in (NAMES.checksums, NAMES.manifest):
        keys.gpg("--verify", str(package.parent / f"{name}.asc"), str(package.parent / name))


def test_several_files_of_trusted_keys_make_one_keyring(
    package: Path, keys: GpgHome, tmp_path: Path
) -> None:
    sign(package, BOB)
    directory = tmp_path / "keys"
    directory.mkdir()
    (directory / "alice.asc").write_text(keys.export(ALICE))
    (directory / "bob.asc").write_text(keys.export(BOB))
    found = check(package, Trust(directory, required=True))
    assert found.signature is not None
    assert found.signature.by == BOB


CHANGED = {
    NAMES.software: "is damaged",
    NAMES.module: "is damaged",
    NAMES.manifest: "is not what was signed",
    NAMES.checksums: "is not what was signed",
    NAMES.manifest_signature: "cannot be used|not what was signed",
    NAMES.checksums_signature: "cannot be used|not what was signed",
}


@pytest.mark.parametrize("name", CHANGED)
def test_no_file_can_be_changed_by_a_bit(package: Path, trusting: Trusted, name: str) -> None:
    sign(package, ALICE)
    change_byte(package.parent / name)
    error = refused(package, trusting(ALICE, required=False))
    assert any(part in error.brief for part in CHANGED[name].split("|"))


@pytest.mark.parametrize("name", [NAMES.software, NAMES.checksums, NAMES.checksums_signature])
def test_no_file_can_be_missing(package: Path, trusting: Trusted, name: str) -> None:
    sign(package, ALICE)
    (package.parent / name).unlink()
    with pytest.raises((VerificationError, OutputError), match=name.replace(".", r"\.")):
        check(package, trusting(ALICE))


def test_a_key_that_is_not_trusted_does_not_count(
    package: Path, trusting: Trusted, keys: GpgHome
) -> None:
    sign(package, BOB)
    error = refused(package, trusting(ALICE))
    assert "a key that is not trusted" in error.brief
    assert keys.fingerprint(BOB) in error.details


def test_one_good_signature_of_several_is_enough(
    package: Path, trusting: Trusted, keys: GpgHome
) -> None:
    for name in (NAMES.checksums, NAMES.manifest):
        keys.sign(package.parent / name, BOB, "--local-user", ALICE)
    found = check(package, trusting(ALICE))
    assert found.signature is not None
    assert found.signature.by == ALICE


def test_a_key_that_has_expired_does_not_count(
    package: Path, trusting: Trusted, keys: GpgHome
) -> None:
    then = str(int(LONG_AGO) + 60)
    for name in (NAMES.checksums, NAMES.manifest):
        keys.sign(package.parent / name, CAROL, "--faked-system-time", then)
    error = refused(package, trusting(CAROL))
    assert "a key that has expired" in error.brief
    assert CAROL in error.details


def test_a_key_that_is_revoked_does_not_count_although_gpg_ends_with_0(
    package: Path, trusting: Trusted, keys: GpgHome
) -> None:
    sign(package, DAVE)
    assert check(package, trusting(DAVE)).signature
    keys.revoke(DAVE)
    error = refused(package, trusting(DAVE))
    assert "a key that is revoked" in error.brief
    assert DAVE in error.details


def test_a_signature_that_has_expired_does_not_count(
    package: Path, trusting: Trusted, keys: GpgHome
) -> None:
    for name in (NAMES.checksums, NAMES.manifest):
        keys.sign(package.parent / name, ALICE, "--default-sig-expire", "seconds=1")
    time.sleep(2.1)
    assert "has expired" in refused(package, trusting(ALICE)).brief


def test_a_weak_digest_does_not_count(package: Path, trusting: Trusted, keys: GpgHome) -> None:
    for name in (NAMES.checksums, NAMES.manifest):
        keys.sign(package.parent / name, ALICE, "--digest-algo", "SHA1")
    assert "cannot be used" in refused(package, trusting(ALICE)).brief


def test_without_a_signature_it_is_refused_where_one_is_required(
    package: Path, trusting: Trusted
) -> None:
    assert check(package, trusting(ALICE, required=False)).signature is None
    assert "has no signature that counts" in refused(package, trusting(ALICE)).brief
    sign(package, ALICE)
    for name in NAMES.signatures:
        (package.parent / name).unlink(missing_ok=True)
    assert "neither a signature" in refused(package, trusting(ALICE)).details


def test_where_nobody_is_trusted_a_signature_is_not_looked_at(package: Path) -> None:
    (package.parent / NAMES.manifest_signature).write_text("rubbish")
    assert check(package, Trust()).signature is None


def test_good_signatures_of_two_packages_do_not_make_a_third(
    package: Path, trusting: Trusted, tmp_path: Path
) -> None:
    other = publish(stage(tmp_path / "other", "other"), tmp_path / "other-builds/24.11")
    for each in (package, other):
        sign(each, ALICE)
    for name in (NAMES.manifest, NAMES.manifest_signature):
        shutil.copy(other.parent / name, package.parent / name)
    assert "are of two packages" in refused(package, trusting(ALICE)).brief


def test_a_signed_package_cannot_pass_for_another(tmp_path: Path, trusting: Trusted) -> None:
    builds = tmp_path / "builds/24.11"
    older = publish_package(builds, "24.11.5")
    sign(older, ALICE)
    for path in list(builds.iterdir()):
        new = path.with_name(path.name.replace("slurm-24.11", "slurm-25.05"))
        shutil.copy(path, new)
    named = builds / "slurm-25.05-manifest.json"
    assert "are of two packages" in refused(named, trusting(ALICE)).brief


HOSTILE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "rubbish": lambda path: path.write_bytes(os.urandom(3000)),
    "status": lambda path: path.write_text("[GNUPG:] GOODSIG 1 x\n[GNUPG:] VALIDSIG 1 2 3\n"),
    "large": lambda path: path.write_bytes(b"-" * (gpg.LARGEST_SIGNATURE + 1)),
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "pipe": os.mkfifo,
    "directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_lies_in_place_of_a_signature_is_refused(
    package: Path, trusting: Trusted, kind: str
) -> None:
    sign(package, ALICE)
    path = package.parent / NAMES.manifest_signature
    path.unlink()
    HOSTILE[kind](path)
    with pytest.raises((VerificationError, OutputError)) as caught:
        check(package, trusting(ALICE))
    assert NAMES.manifest in str(caught.value)
    assert "root:" not in str(caught.value)


def test_a_name_in_a_key_cannot_speak_for_gpg(
    package: Path, trusting: Trusted, keys: GpgHome
) -> None:
    name = "Eve [GNUPG:] GOODSIG \x1b[31m <eve@example.org>"
    if not any("Eve" in line for line in keys.gpg("--with-colons", "--list-keys").splitlines()):
        keys.make_key(name)
    sign(package, "Eve")
    found = check(package, trusting("Eve"))
    assert found.signature is not None
    assert "\x1b" not in found.signature.brief
    assert found.signature.key == keys.fingerprint("Eve")


@pytest.mark.parametrize("content", ["", "no key", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA"])
def test_trusted_keys_without_a_key_are_a_mistake_of_the_settings(
    package: Path, tmp_path: Path, content: str
) -> None:
    sign(package, ALICE)
    (tmp_path / "keys").write_text(content)
    with pytest.raises(ConfigurationError, match="trusted keys") as caught:
        check(package, Trust(tmp_path / "keys"))
    assert "no public key" in caught.value.details


def test_trusted_keys_that_cannot_be_read_are_one_too(package: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "large").write_bytes(b"-" * (gpg.LARGEST_KEYS + 1))
    for name in ("empty", "large", "missing"):
        with pytest.raises(ConfigurationError, match="trusted keys"):
            check(package, Trust(tmp_path / name))


def test_checking_starts_no_agent_and_leaves_nothing(
    package: Path, trusting: Trusted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(package, ALICE)
    trust = trusting(ALICE)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    check(package, trust)
    assert list(temporary.iterdir()) == []
    assert agents_of(GpgHome(temporary)) == []


def test_a_damaged_package_is_not_signed(package: Path) -> None:
    change_byte(package.parent / NAMES.software)
    with pytest.raises(OutputError, match="is not signed"):
        sign(package, ALICE)
    assert not has_signature(package)


def test_whether_a_key_of_ours_has_signed_it(package: Path) -> None:
    fingerprint = gpg.require_key(ALICE)
    assert not is_signed_with(package, fingerprint)
    sign(package, ALICE)
    assert is_signed_with(package, fingerprint)
    assert not is_signed_with(package, gpg.require_key(BOB))
    package.write_text(json.dumps(json.loads(package.read_text())))
    assert not is_signed_with(package, fingerprint)


def failing(key: str) -> SlurmFactoryError:
    with pytest.raises(SlurmFactoryError) as caught:
        gpg.require_key(key)
    assert caught.value.resolution
    return caught.value


def test_keys_that_cannot_sign_are_found_out_before_a_build(keys: GpgHome, tmp_path: Path) -> None:
    assert gpg.require_key(ALICE) == keys.fingerprint(ALICE)
    missing = failing("nobody@example.org")
    assert isinstance(missing, ConfigurationError)
    assert "no secret key" in missing.details
    expired = failing(CAROL)
    assert isinstance(expired, ConfigurationError)
    assert "has expired, is revoked" in expired.details


def test_a_public_key_alone_cannot_sign(
    keys: GpgHome, monkeypatch: pytest.MonkeyPatch, package: Path
) -> None:
    with gpg_home() as other:
        other.gpg("--import", text=keys.export(ALICE))
        monkeypatch.setenv("GNUPGHOME", str(other.path))
        error = failing(ALICE)
    assert "no secret key" in error.details


def test_a_locked_key_ends_at_once_where_nobody_can_type(keys: GpgHome) -> None:
    keys.lock()
    began = time.monotonic()
    error = failing(LOCKED)
    assert isinstance(error, LXDError)
    assert "no passphrase" in error.details
    assert PASSPHRASE not in str(error)
    assert time.monotonic() - began < 20


def test_a_passphrase_comes_from_the_agent(keys: GpgHome, package: Path, tmp_path: Path) -> None:
    words = ("--pinentry-mode", "loopback", "--passphrase", PASSPHRASE)
    (tmp_path / "file").write_text("x")
    keys.sign(tmp_path / "file", LOCKED, *words)
    sign(package, LOCKED)
    assert has_signature(package)


def test_without_gpg_it_says_what_to_install(
    package: Path, trusting: Trusted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust = trusting(ALICE)
    sign(package, ALICE)
    monkeypatch.setattr("slurm_factory.util.process.search_path", lambda: str(tmp_path))
    for act in (lambda: gpg.require_key(ALICE), lambda: check(package, trust)):
        with pytest.raises(LXDError, match="gpg is missing") as caught:
            act()
        assert "apt install gnupg" in caught.value.resolution


def test_a_signature_cannot_be_required_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nobody's would count"):
        trust_of(Settings(require_signature=True))
    assert trust_of(Settings(trusted_keys=tmp_path)) == Trust(tmp_path)


@pytest.mark.parametrize("key", ["--yes", "-u", "", "a\nb", " x", "x" * 300])
def test_a_key_is_named_and_is_no_option(key: str) -> None:
    with pytest.raises(ValueError, match="sign_key"):
        Settings(sign_key=key)


def both(signed: bytes, more: bytes) -> bytes:
    return signed + more


def changed(signed: bytes, more: bytes) -> bytes:
    del more
    return signed.replace(b"what it says", b"what it SAYS")


def cut(signed: bytes, more: bytes) -> bytes:
    del more
    return signed[: signed.index(b"-----BEGIN PGP SIGNATURE")]


def bare(signed: bytes, more: bytes) -> bytes:
    del signed, more
    return b"what it says\n"


def test_a_signed_text_is_what_was_signed(keys: GpgHome, tmp_path: Path) -> None:
    text = b"- what it says\n{}\n"
    signed = gpg.sign_text(text, ALICE)
    assert signed.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----")
    trusted = tmp_path / "trusted.asc"
    trusted.write_text(keys.export(ALICE))
    with gpg.open_keyring(trusted) as keyring:
        assert keyring.text(signed) == text
        assert keyring.text(b"before\n" + signed + b"after\n") == text
    trusted.write_text(keys.export(BOB))
    with (
        gpg.open_keyring(trusted) as keyring,
        pytest.raises(VerificationError, match="not trusted"),
    ):
        keyring.text(signed)


@pytest.mark.parametrize("spoil", [both, changed, cut, bare])
def test_a_text_that_is_not_wholly_signed_is_refused(
    keys: GpgHome, tmp_path: Path, spoil: Callable[[bytes, bytes], bytes]
) -> None:
    trusted = tmp_path / "trusted.asc"
    trusted.write_text(keys.export(ALICE))
    signed, more = (gpg.sign_text(b"what it says\n", name) for name in (ALICE, BOB))
    with gpg.open_keyring(trusted) as keyring, pytest.raises(VerificationError) as error:
        keyring.text(spoil(signed, more))
    assert error.value.details


@pytest.mark.parametrize("key", [CAROL, LOCKED, "nobody@example.org"])
def test_a_key_that_cannot_sign_signs_no_text(keys: GpgHome, key: str) -> None:
    keys.lock()
    with pytest.raises(SlurmFactoryError, match="Nothing can be signed"):
        gpg.sign_text(b"text", key)
