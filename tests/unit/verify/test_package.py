"""A package is found by its name or by any of its files."""

from pathlib import Path

import pytest
from package_samples import IDENTITY, stage

from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError, OutputError
from slurm_factory.package.publish import publish
from slurm_factory.verify.package import find_package


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def manifest(settings: Settings, tmp_path: Path) -> Path:
    settings.builds_dir.mkdir(parents=True)
    return publish(stage(tmp_path / "work"), settings.builds_dir / "24.11")


def test_name_manifest_and_tarball_are_the_same_package(settings: Settings, manifest: Path) -> None:
    software = manifest.with_name(IDENTITY.software_tarball)
    found = [find_package(word, settings) for word in (IDENTITY.stem, str(manifest), str(software))]
    assert found[0] == found[1] == found[2]
    assert found[0].software == software
    assert found[0].manifest_path == manifest


def test_tarball_of_somebody_else_needs_no_manifest(settings: Settings, tmp_path: Path) -> None:
    tarball = tmp_path / "slurm-25.05.tar.gz"
    tarball.touch()
    found = find_package(str(tarball), settings)
    assert (found.stem, found.software, found.manifest) == ("slurm-25.05", tarball, None)


@pytest.mark.parametrize("word", ["slurm-9.9", "/no/such/slurm-software.tar.gz", ""])
def test_unknown_package_is_a_mistake_of_the_user(settings: Settings, word: str) -> None:
    with pytest.raises(ConfigurationError):
        find_package(word, settings)


def test_manifest_without_its_tarball_is_reported(settings: Settings, manifest: Path) -> None:
    manifest.with_name(IDENTITY.software_tarball).unlink()
    with pytest.raises(OutputError, match="has no slurm-24"):
        find_package(str(manifest), settings)
