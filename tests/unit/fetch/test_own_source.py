"""The user's own source: archives, repositories, and what is none of Slurm."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from git_samples import META, commit, make_repository, run_git, served, write_files
from plan_samples import make_request, sample_plan, sample_settings
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError, DownloadError, SlurmFactoryError
from slurm_factory.fetch import own_source
from slurm_factory.fetch.own_source import read_source
from slurm_factory.fetch.sources import cached
from slurm_factory.fetch.upstream import slurm_source
from slurm_factory.plan.releases import Release, find_release

WHEN = 1_788_000_000
DATE = "2026-08-29"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache")


def meta(version: str = "25.11.9", release: str = "1") -> str:
    return META.format(version=version, release=release)


def archive(path: Path, files: dict[str, str], mode: Any = "w:bz2") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(text), WHEN
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def read(settings: Settings, source: object, sha256: str = "", *, offline: bool = False) -> Release:
    return read_source(str(source), sha256, settings, Listener(), offline=offline)


def refused(
    kind: type[SlurmFactoryError], settings: Settings, source: object, sha256: str = "", **o: bool
) -> SlurmFactoryError:
    with pytest.raises(kind) as caught:
        read(settings, source, sha256, **o)
    return caught.value


def kept(settings: Settings) -> list[Path]:
    """Files in the cache but for locks, which stay."""
    found = settings.source_cache_dir.rglob("*")
    return [path for path in found if path.is_file() and path.suffix != ".lock"]


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of tmp_path/served."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.mark.parametrize(
    ("name", "mode"),
    [("s.tar.bz2", "w:bz2"), ("s.tar.gz", "w:gz"), ("s.tar.xz", "w:xz"), ("s.tar", "w")],
)
def test_an_archive_is_described_by_its_meta_and_is_in_the_cache(
    tmp_path: Path, settings: Settings, name: str, mode: str
) -> None:
    path = archive(tmp_path / name, {"slurm-25.11.9/META": meta()}, mode)
    release = read(settings, path)
    assert (release.release, release.series, release.date) == ("25.11.9", "25.11", DATE)
    assert (release.sha256, release.commit) == (checksum(path), "")
    source = slurm_source(release, ())
    assert source.extension == name[1:]
    assert cached(source, settings.source_cache_dir)
    plan = sample_plan("", source=release)
    assert plan.stem == "slurm-25.11.9-debian-12-system"
    assert sample_plan("25.11", source=release).stem == "slurm-25.11-debian-12-system"


def test_what_is_not_yet_a_release_is_named_so(tmp_path: Path, settings: Settings) -> None:
    path = archive(tmp_path / "s.tar.bz2", {"s/META": meta("26.11.0", "0rc1")})
    release = read(settings, path)
    assert (release.release, release.spack_version) == ("26.11.0rc1", "26-11-0-0rc1")
    assert sample_plan("", source=release).is_newer_than_the_catalog
    assert not sample_plan("26.05").is_newer_than_the_catalog


def test_release_that_no_version_knows_is_that_version(tmp_path: Path, settings: Settings) -> None:
    path = archive(tmp_path / "s.tar.bz2", {"s/META": meta("26.11.0", "0pre1")})
    assert read(settings, path).release == "26.11.0"


def test_name_with_control_characters_is_shown_without_them(
    tmp_path: Path, settings: Settings
) -> None:
    path = archive(tmp_path / "a\x01b.tar", {"s/META": meta()}, "w")
    assert read(settings, path).location.isprintable()


def test_checksum_of_a_file_is_told_and_compared(tmp_path: Path, settings: Settings) -> None:
    path = archive(tmp_path / "s.tar.bz2", {"s/META": meta()})
    reporter = Listener()
    read_source(str(path), checksum(path).upper(), settings, reporter)
    assert checksum(path) in reporter.notes[0]
    error = refused(DownloadError, settings, path, "a" * 64)
    assert checksum(path) in error.details


def test_a_url_needs_a_checksum_and_leaves_nothing_with_a_wrong_one(
    tmp_path: Path, settings: Settings, server: str
) -> None:
    path = archive(tmp_path / "served/s.tar.bz2", {"s/META": meta()})
    url = f"{server}/s.tar.bz2"
    assert "--sha256" in refused(ConfigurationError, settings, url).resolution
    assert "not the expected file" in refused(DownloadError, settings, url, "a" * 64).brief
    assert kept(settings) == []
    assert read(settings, url, checksum(path)).release == "25.11.9"
    # It is there now.
    assert read(settings, url, checksum(path), offline=True).release == "25.11.9"


def test_offline_fetches_nothing(settings: Settings, server: str) -> None:
    assert (
        "--offline"
        in refused(DownloadError, settings, f"{server}/s.tar", "a" * 64, offline=True).brief
    )
    assert (
        "--offline"
        in refused(DownloadError, settings, f"git+{server}/slurm.git@main", offline=True).brief
    )


@pytest.mark.parametrize(
    "files",
    [
        {"s/README": "x"},
        {"META": meta()},
        {"./s/META": meta()},
        {"s/sub/META": meta()},
        {"s/META": "Name: slurm\n"},
        {"s/META": meta("1.2")},
        {"s/META": meta("25.11.9/../..")},
        {"s/META": meta(release="$(id)")},
        {"s/META": meta().replace("slurm", "torque")},
        {},
    ],
)
def test_what_is_no_source_of_slurm_is_refused_and_not_kept(
    tmp_path: Path, settings: Settings, server: str, files: dict[str, str]
) -> None:
    path = archive(tmp_path / "served/s.tar.bz2", files)
    assert "no source of Slurm" in refused(ConfigurationError, settings, path).brief
    url = f"{server}/s.tar.bz2"
    assert "no source of Slurm" in refused(ConfigurationError, settings, url, checksum(path)).brief
    assert kept(settings) == []


@pytest.mark.parametrize("damage", [b"", b"hello", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00"])
def test_damaged_archive_is_refused(tmp_path: Path, settings: Settings, damage: bytes) -> None:
    path = tmp_path / "s.tar.gz"
    path.write_bytes(damage)
    error = refused(ConfigurationError, settings, path)
    assert "no source of Slurm" in error.brief
    assert "\n" not in error.details


@pytest.mark.parametrize("end", range(1, 120, 9))
def test_archive_that_is_cut_is_refused(tmp_path: Path, settings: Settings, end: int) -> None:
    whole = archive(tmp_path / "s.tar.xz", {"s/X": "x" * 5000, "s/META": meta()}, "w:xz")
    cut = tmp_path / "cut.tar.xz"
    cut.write_bytes(whole.read_bytes()[:end])
    assert "no source of Slurm" in refused(ConfigurationError, settings, cut).brief


def test_series_without_patches_is_refused(tmp_path: Path, settings: Settings) -> None:
    path = archive(tmp_path / "s.tar", {"s/META": meta("22.05.9")}, "w")
    assert "22.05.9" in refused(ConfigurationError, settings, path).brief


def test_a_release_of_the_catalog_is_that_release(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "s.tar", {"s/META": meta("24.11.5")}, "w")
    known = find_release("24.11.5").model_copy(update={"sha256": checksum(path)})
    monkeypatch.setattr(own_source, "catalog", lambda: (known,))
    assert read(settings, path) == known


def test_a_commit_of_a_repository_is_built_and_named(tmp_path: Path, settings: Settings) -> None:
    repository = make_repository(tmp_path / "fork", {"META": meta("25.11.7"), "configure": "x"})
    run_git(repository, "checkout", "--quiet", "-b", "site")
    write_files(repository, {"configure": "changed"})
    ours = commit(repository, "a change of the site")
    release = read(settings, f"git+file://{repository}@site")
    assert (release.release, release.commit) == ("25.11.7", ours)
    assert release.location == f"git+file://{repository}@{ours}"
    plan = sample_plan("", source=release)
    assert plan.version == f"25.11.7+g{ours[:7]}"
    stored = cached(slurm_source(release, ()), settings.source_cache_dir)
    assert stored
    with tarfile.open(stored) as tar:
        file = tar.extractfile("slurm/configure")
        assert file
        assert file.read() == b"changed"
    # The same commit is the same source.
    assert read(settings, f"git+file://{repository}@{ours}").sha256 == release.sha256
    assert read(settings, f"git+file://{repository}@master").sha256 != release.sha256


def test_directory_means_its_commit_and_says_what_it_leaves_out(
    tmp_path: Path, settings: Settings
) -> None:
    repository = make_repository(tmp_path / "fork", {"META": meta("25.11.7"), "configure": "x"})
    write_files(repository, {"configure": "not committed"})
    reporter = Listener()
    release = read_source(str(repository), "", settings, reporter)
    assert release.commit == run_git(repository, "rev-parse", "HEAD")
    assert "not committed" in reporter.warnings[0]
    (tmp_path / "plain").mkdir()
    assert "no git" in refused(ConfigurationError, settings, tmp_path / "plain").brief


@pytest.mark.parametrize(
    "source", ["~nosuchuser/x", "http://[::1", "git+http://[x", "x" * 300, "a\0b", "git+"]
)
def test_impossible_source_is_refused(settings: Settings, source: str) -> None:
    refused(ConfigurationError, settings, source)


@pytest.mark.parametrize("sha256", ["abc", "../../x", "a" * 65])
def test_impossible_checksum_is_refused(settings: Settings, sha256: str) -> None:
    error = refused(ConfigurationError, settings, "http://h.example/s.tar", sha256)
    assert "64 hexadecimal" in error.details


def test_checksum_does_not_go_with_a_repository(tmp_path: Path, settings: Settings) -> None:
    repository = make_repository(tmp_path / "fork", {"META": meta()})
    for source in (repository, f"git+file://{repository}@master"):
        assert "--sha256" in refused(ConfigurationError, settings, source, "a" * 64).brief


def test_directory_with_an_at_sign_is_a_repository(tmp_path: Path, settings: Settings) -> None:
    repository = make_repository(tmp_path / "u@corp", {"META": meta()})
    release = read(settings, f"git+file://{repository}@v1.1.0")
    assert own_source._parsed(release.location) == (f"file://{repository}", release.commit)


def test_missing_sources_are_named(tmp_path: Path, settings: Settings) -> None:
    repository = make_repository(tmp_path / "fork", {"META": meta()})
    missing = f"git+file://{repository}@develops"
    assert "develop" in refused(ConfigurationError, settings, missing).details
    assert "fetched" in refused(DownloadError, settings, f"git+file://{tmp_path}@x").brief
    assert "no source" in refused(ConfigurationError, settings, tmp_path / "missing").brief
    assert "address" in refused(ConfigurationError, settings, "git+ssh://h/p@r").brief
    assert kept(settings) == []


def test_source_and_version_must_agree(tmp_path: Path, settings: Settings) -> None:
    release = read(settings, archive(tmp_path / "s.tar", {"s/META": meta()}, "w"))
    with pytest.raises(ConfigurationError, match=r"25\.11\.9, not 25\.05"):
        sample_plan("25.05", source=release)
    with pytest.raises(ConfigurationError, match="Which release"):
        sample_plan("")
    assert make_request("").command() == "slurm-factory build --base debian@12 --deps system"


@pytest.mark.parametrize("damage", ["", "{}", '{"commit": "x", "sha256": "y", "size": 1}'])
def test_damaged_note_of_a_commit_counts_as_none(
    tmp_path: Path, settings: Settings, damage: str
) -> None:
    fork = make_repository(tmp_path / "fork", {"META": meta()})
    with served(fork) as server:
        source = f"git+{server.url}@develop"
        fetched = read(settings, source)
    assert read(settings, source, offline=True) == fetched
    (note,) = (settings.source_cache_dir / "commits").iterdir()
    note.write_text(damage)
    error = refused(DownloadError, settings, source, offline=True)
    assert "prefetch" in error.resolution
