"""One list of the files of a package, for everybody who handles them."""

from pathlib import Path

import pytest
from package_samples import IDENTITY, stage

from slurm_factory.clean import PUBLISHED
from slurm_factory.package.file_names import ENDINGS, PACKAGE_END, file_names
from slurm_factory.package.publish import publish

NAMES = file_names("slurm-25.05")


def test_every_name_leads_back_to_the_package() -> None:
    assert {PACKAGE_END.sub("", name) for name in NAMES} == {"slurm-25.05"}
    assert len(set(NAMES)) == len(ENDINGS)


@pytest.mark.parametrize("name", NAMES)
def test_clean_knows_every_file(name: str) -> None:
    assert PUBLISHED.fullmatch(name)


@pytest.mark.parametrize("name", ["slurm-25.05.asc", "slurm-25.05-x.json", "slurm-25.05.tar.gz"])
def test_others_are_no_files_of_a_package(name: str) -> None:
    assert not PUBLISHED.fullmatch(name)


def test_signatures_are_published_with_the_package_they_are_of(tmp_path: Path) -> None:
    directory = tmp_path / "builds/24.11"
    manifest = stage(tmp_path / "work")
    for name in IDENTITY.names.signatures:
        (manifest.parent / name).write_text("new")
    publish(manifest, directory)
    assert [(directory / name).read_text() for name in IDENTITY.names.signatures] == ["new"] * 3


def test_signatures_of_the_older_package_of_this_name_go(tmp_path: Path) -> None:
    directory = tmp_path / "builds/24.11"
    publish(stage(tmp_path / "old", "old"), directory)
    for name in IDENTITY.names.signatures:
        (directory / name).write_text("old")
    manifest = stage(tmp_path / "new", "new")
    (manifest.parent / IDENTITY.names.bundle).write_text("new")
    publish(manifest, directory)
    left = [name for name in IDENTITY.names.signatures if (directory / name).exists()]
    assert left == [IDENTITY.names.bundle]
    assert (directory / left[0]).read_text() == "new"
