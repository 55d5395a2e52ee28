"""`verify` on the command line, as far as it needs no instance."""

import json
import os
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from package_samples import IDENTITY
from typer.testing import CliRunner
from verify_samples import make_tree, pack_package

from slurm_factory.exceptions import ConfigurationError, LXDError, VerificationError
from slurm_factory.instances.clean_instance import NoImageError
from slurm_factory.instances.machine import Machine
from slurm_factory.main import app
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.verification import Check, Place, Trial, load_verification
from slurm_factory.plan.bases import Distro, distros, find_distro
from slurm_factory.verify import verify as module
from slurm_factory.verify.package import Package
from slurm_factory.verify.static import StaticReport

Answer = tuple[int, str, str]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SLURM_FACTORY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return pack_package(make_tree(tmp_path / "made"), tmp_path / "packed")


def run(*words: str) -> Answer:
    result = CliRunner().invoke(app, ["verify", *words])
    return result.exit_code, result.stdout, result.stderr


def test_files_of_a_good_package_pass_and_the_record_lies_beside_it(package: Package) -> None:
    assert package.manifest_path
    code, out, err = run(str(package.manifest_path), "--static")
    assert code == 0, err
    record = load_verification(package.software.with_name(IDENTITY.verification))
    assert record.passed
    assert str(package.software.with_name(IDENTITY.verification)) in out
    # Files alone do not show that it works.
    assert load_manifest(package.manifest_path).verified is False


def test_json_is_one_document_with_every_check(package: Package) -> None:
    code, out, _ = run(str(package.manifest_path), "--static", "--json")
    document: dict[str, Any] = json.loads(out)
    assert code == 0
    assert document["verification"]["passed"] is True
    assert {"checksums", "closure", "glibc"} <= {
        check["name"] for check in document["verification"]["static"]
    }
    assert document["verification"]["trials"] == []


def test_damaged_package_ends_with_6_and_says_which_check_failed(package: Package) -> None:
    content = bytearray(package.software.read_bytes())
    content[-9] ^= 1
    package.software.write_bytes(content)
    code, _, err = run(str(package.manifest_path), "--static", "--json")
    assert code == VerificationError.exit_code
    assert f"{IDENTITY.stem} failed the check checksums." in err


def test_package_in_a_directory_of_somebody_else_is_checked_too(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, allowed = package.software.parent, os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and allowed(path, mode))
    code, _, err = run(str(package.manifest_path), "--static")
    assert code == 0
    assert "The record cannot be put into" in err


@pytest.mark.parametrize("name", ["debian@1", "rocky", "debian@13,nonsense"])
def test_unknown_distribution_is_refused_before_anything_is_read(
    package: Package, name: str
) -> None:
    code, _, err = run(str(package.manifest_path), "--on", name)
    assert code == ConfigurationError.exit_code
    assert "Packages cannot be verified on" in err


def test_this_machine_is_only_used_by_root(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = run(str(package.manifest_path), "--here")
    assert code == LXDError.exit_code
    assert "--here needs root." in err


def test_machine_with_a_cluster_is_left_alone(
    package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(module, "IN_USE", (tmp_path,))
    code, _, err = run(str(package.manifest_path), "--here")
    assert code == LXDError.exit_code
    assert "A cluster or a user seems to need it." in err


def test_no_cluster_is_no_success(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_image(*_: object, **__: object) -> None:
        raise NoImageError("No image.", details="The server is away.", resolution="Wait.")

    monkeypatch.setattr(module, "clean_instance", no_image)
    code, _, err = run(str(package.manifest_path))
    assert code == LXDError.exit_code
    assert "Error: No image." in err
    assert "is left out: No image." in err


def test_failure_is_on_record_even_if_the_next_instance_never_starts(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Check(name="srun", result="failed", seconds=1.0, detail="broken")

    def tried(*words: object) -> Trial:
        distro = next(word for word in words if isinstance(word, Distro))
        if distro.name == "debian@13":
            raise LXDError("LXD is away.")
        place = Place(prefix="/a b", checks=(check,))
        now = datetime.now(UTC)
        return Trial(
            distro=distro.name,
            title=distro.title,
            glibc="2",
            kernel="6",
            at=now,
            seconds=1.0,
            places=(place,),
        )

    monkeypatch.setattr(module, "clean_instance", lambda *_, **__: nullcontext(Machine()))
    monkeypatch.setattr(module, "try_package", tried)
    code, _, _ = run(str(package.manifest_path), "--on", "debian@12,debian@13")
    assert code == LXDError.exit_code
    record = load_verification(package.software.with_name(IDENTITY.verification))
    assert [trial.passed for trial in record.trials] == [False]


def test_hostile_names_and_versions_end_no_verification(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "made")
    (tree / os.fsdecode(b"lib/bad\xff\x1b")).symlink_to("nowhere")
    package = pack_package(tree, tmp_path / "packed")
    code, out, err = run(str(package.manifest_path), "--static")
    assert code == VerificationError.exit_code
    assert "failed the check links" in err
    assert "\x1b" not in out + err


def test_tarball_of_any_name_gets_a_record(package: Package, tmp_path: Path) -> None:
    named = tmp_path / "my slurm (new).tar.gz"
    named.write_bytes(package.software.read_bytes())
    code, _, err = run(str(named), "--static")
    assert code == 0, err
    assert load_verification(tmp_path / "my-slurm--new--verification.json").passed


def test_oldest_and_newest_distribution_are_the_first_of_their_groups() -> None:
    starts = ("Debian 12", "Debian 13", "Ubuntu 24.04", "RHEL 9")
    report = StaticReport((), None, "2.36", starts)
    oldest, newest = module.choose(report)
    assert [each.title for each in oldest] == ["Debian 12", "Ubuntu 24.04", "Debian 13"]
    assert newest == oldest[::-1]


def test_package_that_starts_nowhere_is_told() -> None:
    with pytest.raises(VerificationError, match=r"needs glibc 2\.99"):
        module.choose(StaticReport((), None, "2.99", ("Somewhere",)))


def test_every_distribution_can_be_named() -> None:
    assert [find_distro(each.name) for each in distros()] == [*distros()]
    versions = [tuple(map(int, each.glibc.split("."))) for each in distros()]
    assert versions == sorted(versions)


def test_missing_image_is_an_error_of_lxd() -> None:
    assert issubclass(NoImageError, LXDError)
