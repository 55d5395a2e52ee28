"""Where the sources of a plan are looked for."""

from pathlib import Path

import pytest
from plan_samples import sample_plan, sample_settings

from slurm_factory import upstream
from slurm_factory.config import Settings
from slurm_factory.releases import catalogue, find_release
from slurm_factory.sources import archive_extension
from slurm_factory.upstream import debian_mirrors, slurm_source, sources_for

POOL = "pool/main/s/slurm-wlm/slurm-wlm_24.11.5.orig.tar.gz"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A machine whose apt uses a mirror nearby."""
    (tmp_path / "sources.list").write_text("deb http://near.example/debian bookworm main\n")
    monkeypatch.setattr(upstream, "ETC_APT", tmp_path)
    return sample_settings(tmp_path / "cache")


def test_a_standard_package_needs_slurm_only(settings: Settings) -> None:
    sources = sources_for(sample_plan(), settings)
    assert [*sources] == ["slurm"]
    assert sources["slurm"].sha256 == sample_plan().release.sha256


def test_a_gpu_package_needs_the_header_of_nvml_as_spack_would_store_it(
    settings: Settings,
) -> None:
    nvml = sources_for(sample_plan(gpu=True), settings)["nvml"]
    assert nvml.size
    assert archive_extension(nvml.urls[0]) == ""


def test_what_the_debian_archive_has_too_is_looked_for_there_after_upstream(
    settings: Settings,
) -> None:
    urls = sources_for(sample_plan("24.11.5"), settings)["slurm"].urls
    assert urls == (
        "https://github.com/SchedMD/slurm/archive/refs/tags/slurm-24-11-5-1.tar.gz",
        f"http://near.example/debian/{POOL}",
        f"https://deb.debian.org/debian/{POOL}",
    )


def test_a_mirror_that_is_set_takes_the_place_of_this_machines_own(settings: Settings) -> None:
    mirror = "http://set.example/debian"
    changed = settings.model_copy(update={"debian_mirror": mirror})
    assert debian_mirrors(changed) == (mirror,)
    assert debian_mirrors(settings) == ("http://near.example/debian",)


def test_a_release_that_only_upstream_has_is_looked_for_there_only() -> None:
    source = slurm_source(find_release("25.05"), ("http://near.example/debian",))
    assert source.urls == (find_release("25.05").url,)


def test_every_release_is_stored_as_spack_would_store_it() -> None:
    for release in catalogue():
        source = slurm_source(release, ())
        assert source.extension == archive_extension(release.url) == ".tar.gz"
        assert str(source.stored_as).endswith(f"/{release.sha256[:2]}/{release.sha256}.tar.gz")
