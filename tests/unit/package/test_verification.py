"""What was seen of a package stays bound to its tarball, and to nothing else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from package_samples import stage

from slurm_factory.exceptions import OutputError
from slurm_factory.package.manifest import File, Verified, load_manifest
from slurm_factory.package.publish import publish
from slurm_factory.package.verification import (
    Check,
    Place,
    Result,
    Suite,
    Trial,
    Verification,
    load_verification,
    record,
)

AT = datetime(2026, 11, 28, tzinfo=UTC)


def check(result: Result = "passed", name: str = "srun") -> Check:
    return Check(name=name, result=result, seconds=1.0)


def trial(distro: str = "debian@13", result: Result = "passed") -> Trial:
    place = Place(prefix="/a b", checks=(check(result),))
    return Trial(
        distro=distro,
        title=distro.replace("debian@", "Debian "),
        glibc="2.41",
        kernel="6.1",
        at=AT,
        seconds=30.0,
        places=(place,),
    )


def verification(software: File, *trials: Trial, static: Result = "passed") -> Verification:
    return Verification(
        stem="slurm-24.11-debian-12-system",
        release="24.11.5",
        created=AT,
        slurm_factory="0.1.0",
        software=software,
        glibc="2.36",
        static=(check(static, "checksums"),),
        trials=trials,
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return publish(stage(tmp_path / "work"), tmp_path / "builds")


def software(manifest: Path) -> File:
    return load_manifest(manifest).files[0]


def note(manifest: Path, found: Verification) -> Path:
    """Record what was found of a package that nobody has built again since."""
    return record(found, load_manifest(manifest), manifest, manifest.parent)


def verified(manifest: Path) -> Verified | bool:
    return load_manifest(manifest).verified


def test_manifest_says_where_a_cluster_ran(manifest: Path) -> None:
    path = note(manifest, verification(software(manifest), trial()))
    found = verified(manifest)
    assert isinstance(found, Verified)
    assert found.on == ("Debian 13",)
    assert found.record.name == path.name
    assert load_verification(path).trials == (trial(),)


@pytest.mark.parametrize(
    ("static", "live"), [("passed", "failed"), ("failed", "passed"), ("failed", "failed")]
)
def test_failure_of_any_kind_is_no_proof(manifest: Path, static: Result, live: Result) -> None:
    found = verification(software(manifest), trial(result=live), static=static)
    note(manifest, found)
    assert verified(manifest) is False


def test_files_alone_are_no_proof(manifest: Path) -> None:
    note(manifest, verification(software(manifest)))
    assert verified(manifest) is False


def test_distributions_are_remembered_until_they_are_tried_again(manifest: Path) -> None:
    note(manifest, verification(software(manifest), trial("debian@11")))
    note(manifest, verification(software(manifest)))
    note(manifest, verification(software(manifest), trial("debian@13")))
    found = verified(manifest)
    assert isinstance(found, Verified)
    assert found.on == ("Debian 11", "Debian 13")
    again = verification(software(manifest), trial("debian@11", "failed"))
    note(manifest, again)
    assert verified(manifest) is False


def test_looking_at_the_files_again_changes_no_date(manifest: Path) -> None:
    note(manifest, verification(software(manifest), trial()))
    later = verification(software(manifest)).model_copy(update={"created": AT + timedelta(9)})
    note(manifest, later)
    found = verified(manifest)
    assert isinstance(found, Verified)
    assert (found.at, found.on) == (AT, ("Debian 13",))
    failed = verification(software(manifest), static="failed")
    note(manifest, failed)
    assert verified(manifest) is False


def test_record_that_somebody_else_has_written_proves_nothing(manifest: Path) -> None:
    forged = verification(software(manifest), trial())
    path = manifest.with_name(load_manifest(manifest).identity.verification)
    path.write_text(forged.model_dump_json())
    note(manifest, verification(software(manifest)))
    assert verified(manifest) is False


def test_link_in_the_place_of_the_record_is_not_followed(manifest: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = manifest.with_name(load_manifest(manifest).identity.verification)
    path.symlink_to(victim)
    note(manifest, verification(software(manifest), trial()))
    assert victim.read_text() == "mine"
    assert not path.is_symlink()


def test_what_a_package_prints_cannot_harm_the_record(manifest: Path) -> None:
    nasty = check("failed").model_dump() | {"detail": "\x1b[2J" + "\udcff" * 9000 + "\nend"}
    found = Check.model_validate(nasty)
    assert len(found.detail) < 40_000
    assert "\x1b" not in found.detail
    assert found.brief == "end"
    whole = verification(software(manifest)).model_copy(update={"static": (found,)})
    assert load_verification(note(manifest, whole)).static == (found,)


def test_record_of_the_package_of_before_is_not_that_of_this_one(
    manifest: Path, tmp_path: Path
) -> None:
    before, known = software(manifest), load_manifest(manifest)
    path = note(manifest, verification(before, trial()))
    publish(stage(tmp_path / "again", "other content"), tmp_path / "builds")
    assert not path.exists()
    assert verified(manifest) is False
    with pytest.raises(OutputError, match="was built again"):
        record(verification(before, trial()), known, manifest, manifest.parent)


def test_tarball_that_is_not_the_manifest_s_proves_nothing(manifest: Path) -> None:
    other = software(manifest).model_copy(update={"sha256": "0" * 64})
    path = note(manifest, verification(other, trial()))
    assert load_verification(path).software == other
    assert verified(manifest) is False


def test_package_without_a_manifest_gets_a_record_too(tmp_path: Path) -> None:
    file = File(name="other.tar.gz", size=1, sha256="0" * 64)
    path = record(verification(file, trial()), None, None, tmp_path)
    assert load_verification(path).passed


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"verification_version": 2}', "\udcff"])
def test_damaged_record_is_an_error_and_is_replaced(manifest: Path, text: str) -> None:
    path = note(manifest, verification(software(manifest), trial()))
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(OutputError, match="cannot be used"):
        load_verification(path)
    note(manifest, verification(software(manifest), trial()))
    assert load_verification(path).passed


def test_package_must_pass_what_plain_slurm_passes(manifest: Path) -> None:
    suite = Suite(
        distro="debian@12",
        source="0" * 64,
        seconds=1.0,
        plain={"a": "passed", "b": "failed", "c": "passed"},
        package={"a": "passed", "b": "failed", "c": "failed"},
    )
    assert suite.worse == ("c",)
    found = verification(software(manifest), trial())
    assert not found.model_copy(update={"suite": suite}).passed
