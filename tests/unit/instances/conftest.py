"""LXD as the tests of instances find it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_lxc import FakeLxc, image, install_fake_lxc
from launch_samples import MADE_HERE, base
from plan_samples import sample_settings

from slurm_factory.config import Settings
from slurm_factory.instances import images as images_module
from slurm_factory.instances import lxc as lxc_module
from slurm_factory.instances.base import SpackFiles


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLxc:
    """LXD with an image and a base that were made here."""
    fake = install_fake_lxc(tmp_path / "bin", monkeypatch)
    fake.images([image(MADE_HERE.alias)])
    fake.instances([base(datetime.now(UTC))])
    monkeypatch.setattr(images_module, "ETC_APT", tmp_path / "none")
    monkeypatch.setattr(lxc_module, "QUIET_LOOKS", 0)
    return fake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache")


@pytest.fixture
def spack_files(tmp_path: Path) -> SpackFiles:
    paths = [tmp_path / name for name in ("spack-1.tar.gz", "packages-1.tar.gz", "0123abcd")]
    for path in paths:
        path.write_text(path.name)
    return SpackFiles(*paths)
