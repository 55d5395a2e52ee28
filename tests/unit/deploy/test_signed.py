"""`deploy.sh --keys`: only what one of these keys has signed is unpacked."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy_samples import Place, make_package
from gpg_samples import LONG_AGO, GpgHome, gpg_home

from slurm_factory import resources

ALICE, BOB = "Alice <alice@example.org>", "Bob <bob@example.org>"
CAROL, DAVE = "Carol <carol@example.org>", "Dave <dave@example.org>"


@pytest.fixture(scope="module")
def keys() -> Iterator[GpgHome]:
    with gpg_home() as home:
        for name in (ALICE, BOB, DAVE):
            home.make_key(name)
        home.make_key(CAROL, expires="seconds=3600")
        yield home


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "a prefix")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path, "24.11.5")


@pytest.fixture
def trusted(tmp_path: Path, keys: GpgHome) -> Path:
    path = tmp_path / "the keys.asc"
    path.write_text(keys.export(BOB) + keys.export(ALICE))
    return path


def sums_of(package: Path) -> Path:
    return Path(str(package).removesuffix("-software.tar.gz") + ".sha256")


def refused(place: Place, package: Path, trusted: Path) -> str:
    done = place.deploy(package, "--keys", trusted)
    assert done.code == 6, done.errors
    assert not (place.top / "versions").exists()
    return done.errors


def test_signed_package_is_unpacked_and_its_signer_named(
    place: Place, package: Path, keys: GpgHome, trusted: Path
) -> None:
    keys.sign(sums_of(package), ALICE)
    done = place.deploy(package, "--keys", trusted)
    assert done.code == 0, done.errors
    assert ALICE in done.errors
    assert place.current == "slurm-24.11.5"


def test_keys_may_be_a_binary_keyring(
    place: Place, package: Path, keys: GpgHome, tmp_path: Path
) -> None:
    keys.sign(sums_of(package), ALICE)
    keys.gpg("--export", "--output", str(tmp_path / "keys.gpg"), ALICE)
    assert place.deploy(package, "--keys", tmp_path / "keys.gpg").code == 0


def test_key_that_is_not_named_does_not_count(
    place: Place, package: Path, keys: GpgHome, tmp_path: Path
) -> None:
    keys.sign(sums_of(package), BOB)
    (tmp_path / "alice").write_text(keys.export(ALICE))
    assert "a key that is not trusted" in refused(place, package, tmp_path / "alice")


def test_unsigned_package_is_refused(place: Place, package: Path, trusted: Path) -> None:
    assert "is not signed" in refused(place, package, trusted)


def test_changed_checksums_are_refused(
    place: Place, package: Path, keys: GpgHome, trusted: Path
) -> None:
    keys.sign(sums_of(package), ALICE)
    sums_of(package).write_text(sums_of(package).read_text().replace("a", "b"))
    assert "is not what was signed" in refused(place, package, trusted)


@pytest.mark.parametrize("which", ["software", "module"])
def test_changed_tarball_is_refused(
    place: Place, package: Path, keys: GpgHome, trusted: Path, which: str
) -> None:
    keys.sign(sums_of(package), ALICE)
    path = package.with_name(package.name.replace("software", which))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert f"{path} is damaged" in refused(place, package, trusted)


def test_key_that_has_expired_does_not_count(
    place: Place, package: Path, keys: GpgHome, tmp_path: Path
) -> None:
    keys.sign(sums_of(package), CAROL, "--faked-system-time", str(int(LONG_AGO) + 60))
    (tmp_path / "carol").write_text(keys.export(CAROL))
    assert "a key that has expired" in refused(place, package, tmp_path / "carol")


def test_key_that_is_revoked_does_not_count(
    place: Place, package: Path, keys: GpgHome, tmp_path: Path
) -> None:
    keys.sign(sums_of(package), DAVE)
    keys.revoke(DAVE)
    (tmp_path / "dave").write_text(keys.export(DAVE))
    assert "a key that is revoked" in refused(place, package, tmp_path / "dave")


def test_weak_digest_and_rubbish_do_not_count(
    place: Place, package: Path, keys: GpgHome, trusted: Path
) -> None:
    signature = keys.sign(sums_of(package), ALICE, "--digest-algo", "SHA1")
    assert "cannot be used" in refused(place, package, trusted)
    signature.write_bytes(os.urandom(2000))
    assert "cannot be used" in refused(place, package, trusted)


def test_checksum_on_the_command_line_must_be_the_signed_one(
    place: Place, package: Path, keys: GpgHome, trusted: Path
) -> None:
    keys.sign(sums_of(package), ALICE)
    done = place.deploy(package, "--keys", trusted, "--sha256", "0" * 64)
    assert done.code == 6
    assert "is another one" in done.errors


def test_keys_that_cannot_be_read_are_wrong_usage(
    place: Place, package: Path, keys: GpgHome, tmp_path: Path
) -> None:
    keys.sign(sums_of(package), ALICE)
    assert place.deploy(package, "--keys", tmp_path / "none").code == 2
    damaged = tmp_path / "damaged"
    damaged.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n%%%%\n")
    assert place.deploy(package, "--keys", damaged).code == 2


def test_without_gpgv_nothing_is_believed(
    place: Place, package: Path, keys: GpgHome, trusted: Path, tmp_path: Path
) -> None:
    keys.sign(sums_of(package), ALICE)
    # For root, the script has its own PATH.
    text = resources.deploy_script().read_text()
    assert text.count("command -v gpgv ") == 1
    script = tmp_path / "deploy.sh"
    script.write_text(text.replace("command -v gpgv ", "command -v gpgv-is-missing "))
    words = ["sh", str(script), "--prefix", str(place.prefix), str(package), "--keys", str(trusted)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "--keys needs gpgv." in done.stderr
