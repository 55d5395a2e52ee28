"""Signatures on the command line: --sign, and what a site refuses."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gpg_samples import GpgHome, gpg_home
from package_samples import IDENTITY
from typer.testing import CliRunner
from verify_samples import make_tree, pack_package

from slurm_factory import main as module
from slurm_factory.cache_dir import MARK
from slurm_factory.main import app
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.signatures import sign
from slurm_factory.up_to_date import Outcome

ALICE, BOB = "Alice <alice@example.org>", "Bob <bob@example.org>"
NAMES = IDENTITY.names


@pytest.fixture(scope="module")
def keys() -> Iterator[GpgHome]:
    with gpg_home() as home:
        for name in (ALICE, BOB):
            home.make_key(name)
        yield home


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the files of a package, which nobody has signed."""
    directory = tmp_path_factory.mktemp("package")
    return pack_package(make_tree(directory / "made"), directory / "packed").software.parent


@dataclass(frozen=True)
class Site:
    """A site that trusts Alice, with one finished package."""

    manifest: Path
    monkeypatch: pytest.MonkeyPatch

    def run(self, *words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, [*words])
        return result.exit_code, result.stdout, result.stderr

    def require(self) -> None:
        self.monkeypatch.setenv("SLURM_FACTORY_REQUIRE_SIGNATURE", "true")

    def show(self, *words: str) -> dict[str, Any]:
        code, out, _ = self.run("show", "--json", *words)
        (package,) = json.loads(out.splitlines()[0] if code else out)["packages"]
        found: dict[str, Any] = package["signature"]
        return found


@pytest.fixture
def site(keys: GpgHome, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("GNUPGHOME", str(keys.path))
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(tmp_path / "cache"))
    trusted = tmp_path / "trusted.asc"
    trusted.write_text(keys.export(ALICE))
    monkeypatch.setenv("SLURM_FACTORY_TRUSTED_KEYS", str(trusted))
    directory = tmp_path / "cache/builds/24.11"
    shutil.copytree(packed, directory)
    (tmp_path / "cache" / MARK).touch()
    return Site(directory / NAMES.manifest, monkeypatch)


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def test_verify_says_who_has_signed(site: Site) -> None:
    sign(site.manifest, ALICE)
    code, out, err = site.run("verify", str(site.manifest), "--static", "--json")
    assert code == 0, err
    checks = {each["name"]: each for each in json.loads(out)["verification"]["static"]}
    assert checks["signature"]["result"] == "passed"
    assert ALICE in checks["signature"]["detail"]


@pytest.mark.parametrize("command", ["verify", "deploy", "show"])
def test_unsigned_package_is_refused_where_signatures_are_required(
    site: Site, command: str
) -> None:
    site.require()
    code, _, err = site.run(command, str(site.manifest))
    assert code == 6
    assert "has no signature that counts" in " ".join(err.split())


@pytest.mark.parametrize("command", ["verify", "deploy", "show"])
def test_key_of_somebody_else_is_refused_everywhere(site: Site, command: str) -> None:
    sign(site.manifest, BOB)
    code, _, err = site.run(command, str(site.manifest))
    assert code == 6
    assert "signed with a key that is not trusted" in " ".join(err.split())


@pytest.mark.parametrize("command", ["verify", "deploy"])
def test_signed_package_with_a_changed_tarball_is_refused(site: Site, command: str) -> None:
    sign(site.manifest, ALICE)
    change(site.manifest.with_name(NAMES.module))
    code, _, err = site.run(command, str(site.manifest))
    assert code == 6
    assert "is damaged" in err


@pytest.mark.parametrize("command", ["verify", "deploy"])
@pytest.mark.parametrize("word", ["path", "name"])
@pytest.mark.parametrize("content", ["{", '{"manifest_version": 1}', ""])
def test_signed_manifest_that_cannot_be_read_any_more_is_refused(
    site: Site, command: str, word: str, content: str
) -> None:
    sign(site.manifest, ALICE)
    site.manifest.write_text(content)
    named = str(site.manifest) if word == "path" else IDENTITY.stem
    code, _, err = site.run(command, named)
    assert code == 6
    assert "is not what was signed" in err


def test_tarball_alone_cannot_be_signed(site: Site, tmp_path: Path) -> None:
    tarball = shutil.copy(site.manifest.with_name(NAMES.software), tmp_path / "alone.tar.gz")
    site.require()
    code, _, err = site.run("verify", str(tarball), "--static")
    assert code == 6
    assert "is not signed" in err


def test_deploy_gets_the_checksum_that_was_signed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(site.manifest, ALICE)
    site.require()
    given: list[str] = []
    monkeypatch.setattr("slurm_factory.deploy.become_script", given.extend)
    code, _, err = site.run("deploy", str(site.manifest))
    assert code == 0, err
    files = {file.name: file.sha256 for file in load_manifest(site.manifest).files}
    words = ["--sha256", files[NAMES.software], "--module-sha256", files[NAMES.module]]
    assert given[-4:] == words


def test_show_and_list_say_who_has_signed(site: Site) -> None:
    assert site.show()["state"] == "unsigned"
    sign(site.manifest, ALICE)
    assert site.show()["by"] == ALICE
    _, out, _ = site.run("list", "--json")
    (build,) = json.loads(out)["builds"]
    assert build["signature"]["state"] == "signed"
    assert f"Signed by {ALICE}" in site.run("show")[1]
    assert "signed by Alice" in " ".join(site.run("list")[1].split())


def test_nothing_is_said_of_a_signature_where_nobody_is_trusted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(site.manifest, ALICE)
    monkeypatch.delenv("SLURM_FACTORY_TRUSTED_KEYS")
    assert site.show() == {"state": "unchecked", "by": "", "key": "", "at": None, "problem": ""}
    assert "which was not checked" in site.run("show")[1]


def test_list_shows_what_would_be_refused_and_ends_with_0(site: Site) -> None:
    sign(site.manifest, BOB)
    code, out, _ = site.run("list", "--json")
    (build,) = json.loads(out)["builds"]
    assert code == 0
    assert build["signature"]["state"] == "refused"
    assert "not trusted" in build["signature"]["problem"]


def test_verify_leaves_a_signed_manifest_as_it_is(site: Site) -> None:
    sign(site.manifest, ALICE)
    before = site.manifest.read_bytes()
    for _ in range(2):
        assert site.run("verify", str(site.manifest), "--static")[0] == 0
    assert site.manifest.read_bytes() == before
    assert site.manifest.with_name(NAMES.verification).is_file()


def test_verify_signs_a_manifest_again_where_it_may(site: Site) -> None:
    sign(site.manifest, ALICE)
    old = site.manifest.with_name(NAMES.manifest_signature).read_text()
    time.sleep(1.1)  # Two signatures of one second are the same.
    assert site.run("verify", str(site.manifest), "--static", "--sign", ALICE)[0] == 0
    assert site.manifest.with_name(NAMES.manifest_signature).read_text() != old
    assert site.show()["state"] == "signed"


def test_verify_signs_nothing_that_was_not_signed(site: Site) -> None:
    assert site.run("verify", str(site.manifest), "--static", "--sign", ALICE)[0] == 0
    assert site.show()["state"] == "unsigned"


BUILD = ("build", "--slurm-version", "24.11", "--deps", "system", "--base", "debian@12")


def build_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every build have this package; returns the steps that ran."""
    ran: list[str] = []

    def made(*_: object) -> Outcome:
        ran.append("build")
        return Outcome(site.manifest, load_manifest(site.manifest), up_to_date=False)

    monkeypatch.setattr(module, "_find_finished", lambda *_: None)
    monkeypatch.setattr(module, "_build", made)
    return ran


def test_build_signs_what_it_has_built(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    build_nothing(site, monkeypatch)
    code, _, err = site.run(*BUILD, "--sign", ALICE, "--json")
    assert code == 0, err
    assert site.show()["by"] == ALICE


def test_what_this_key_has_signed_is_not_signed_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_nothing(site, monkeypatch)
    monkeypatch.setenv("SLURM_FACTORY_SIGN_KEY", ALICE)
    signature = site.manifest.with_name(NAMES.manifest_signature)
    found = []
    for key in ((), (), ("--sign", BOB)):
        assert site.run(*BUILD, *key)[0] == 0
        found.append(signature.read_text())
    assert found[0] == found[1] != found[2]


def test_build_signs_after_it_has_verified(
    site: Site, monkeypatch: pytest.MonkeyPatch, keys: GpgHome
) -> None:
    build_nothing(site, monkeypatch)

    def verified(outcome: Outcome, *_: object) -> Outcome:
        site.manifest.write_text(site.manifest.read_text() + "\n")
        return outcome

    monkeypatch.setattr(module, "_verified", verified)
    assert site.run(*BUILD, "--verify", "--sign", ALICE)[0] == 0
    assert site.show()["state"] == "signed"


@pytest.mark.parametrize(
    ("key", "code", "reason"),
    [
        ("nobody@example.org", 2, "no secret key"),
        ("--yes", 2, "names no key"),
    ],
)
def test_build_does_not_begin_with_a_key_that_cannot_sign(
    site: Site, monkeypatch: pytest.MonkeyPatch, key: str, code: int, reason: str
) -> None:
    ran = build_nothing(site, monkeypatch)
    found, _, err = site.run(*BUILD, f"--sign={key}")
    assert found == code
    assert reason in " ".join(err.split())
    assert ran == []


def test_key_that_is_lost_while_it_builds_is_told_with_the_finished_package(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build_nothing(site, monkeypatch)
    (tmp_path / "empty").mkdir(0o700)

    def built(*_: object) -> Outcome:
        monkeypatch.setenv("GNUPGHOME", str(tmp_path / "empty"))
        return Outcome(site.manifest, load_manifest(site.manifest), up_to_date=False)

    monkeypatch.setattr(module, "_build", built)
    code, _, err = site.run(*BUILD, "--sign", ALICE)
    told = " ".join(err.split())
    assert code == 2
    assert f"is finished, and not signed: {site.manifest}" in told
    assert "it only signs" in told


def test_requiring_signatures_of_nobody_is_a_mistake_of_the_settings(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.require()
    monkeypatch.delenv("SLURM_FACTORY_TRUSTED_KEYS")
    for command in ("verify", "deploy", "show"):
        code, _, err = site.run(command, str(site.manifest))
        assert code == 2
        assert "nobody's would count" in err
