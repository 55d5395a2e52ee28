"""Where the sources of a plan are looked for."""

import re
from pathlib import Path

import pytest
from plan_samples import sample_plan, sample_settings, spack_plan

from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch import upstream
from slurm_factory.fetch.sources import archive_extension
from slurm_factory.fetch.upstream import (
    base_sources,
    clingo_source,
    debian_mirrors,
    slurm_source,
    sources_for,
)
from slurm_factory.plan.bases import Base, bases
from slurm_factory.plan.releases import catalog, find_release

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
    assert nvml.extension == archive_extension(nvml.urls[0]) == ""


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
    source = slurm_source(find_release("25.05.8"), ("http://near.example/debian",))
    assert source.urls == (find_release("25.05.8").url,)


def test_every_release_is_stored_as_spack_would_store_it() -> None:
    for release in catalog():
        if release.sha256 is None:
            continue
        source = slurm_source(release, ())
        assert source.extension == archive_extension(release.url)
        assert source.extension == (".tar.bz2" if release.archive else ".tar.gz")
        name = f"{release.sha256[:2]}/{release.sha256}{source.extension}"
        assert str(source.stored_as).endswith(f"/{name}")


def test_a_release_without_a_checksum_asks_for_one() -> None:
    unknown = find_release("25.05.8").model_copy(update={"sha256": None})
    with pytest.raises(ConfigurationError, match="no checksum of Slurm 25") as caught:
        slurm_source(unknown, ())
    assert unknown.url in caught.value.details
    assert "--sha256" in caught.value.resolution


def test_debians_patches_are_looked_for_in_security_archives_nearby_and_at_last_in_the_past(
    settings: Settings,
) -> None:
    etc_apt = settings.cache_dir.parent
    (etc_apt / "sources.list").write_text(
        "deb http://near.example/debian bookworm main\n"
        "deb http://near.example/debian-security bookworm-security main\n"
    )
    backports = find_release("24.11.5").backports
    assert backports
    paths = [
        url.removesuffix(f"/{backports.pool}")
        for url in sources_for(sample_plan("24.11.5"), settings)["backports"].urls
    ]
    assert paths == [
        "http://near.example/debian-security",
        "https://deb.debian.org/debian-security",
        "https://snapshot.debian.org/archive/debian-security/20260910T000000Z",
    ]
    changed = settings.model_copy(update={"debian_mirror": "http://set.example/debian"})
    urls = sources_for(sample_plan("24.11.5"), changed)["backports"].urls
    assert urls[0] == f"http://set.example/debian-security/{backports.pool}"


def test_a_new_base_for_spack_needs_clingo_for_its_python_and_one_that_is_there_does_not(
    settings: Settings,
) -> None:
    clingo = base_sources(spack_plan(base="ubuntu@22.04"))["clingo"]
    assert "-cp310-" in clingo.urls[0]
    assert "clingo" not in sources_for(spack_plan(), settings)
    assert base_sources(sample_plan()) == {}


@pytest.mark.parametrize("base", bases(), ids=lambda base: base.slug)
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_base_has_a_clingo_that_runs_on_its_python_and_its_glibc(
    base: Base, architecture: str
) -> None:
    source = clingo_source(base, architecture)
    wheel = source.urls[0].rpartition("/")[2]
    assert f"-cp{base.python.replace('.', '')}-" in wheel
    assert wheel.endswith(f"_{architecture}.whl")
    needed = re.findall(r"manylinux_2_(\d+)", wheel)
    assert max(map(int, needed)) <= int(base.glibc.removeprefix("2."))
    assert source.extension == archive_extension(source.urls[0]), "stored as Spack would"


def test_an_architecture_without_clingo_is_shown_what_it_can_build() -> None:
    with pytest.raises(ConfigurationError, match="riscv64") as caught:
        clingo_source(bases()[0], "riscv64")
    assert "--deps system" in caught.value.resolution
