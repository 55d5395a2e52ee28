"""Catalogs beside the shipped one, and new releases of upstream."""

import json
from pathlib import Path
from typing import Any

import pytest
from git_samples import META, commit, make_repository, run_git, served, status, write_files
from plan_samples import sample_plan, sample_settings
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError, DownloadError
from slurm_factory.fetch import copies
from slurm_factory.fetch.catalogs import known_releases, update
from slurm_factory.fetch.http import TransferError
from slurm_factory.fetch.sources import cached
from slurm_factory.fetch.upstream import slurm_source
from slurm_factory.plan.releases import catalog, find_release
from slurm_factory.supplies import fetch_source_archives

NEW = {
    "release": "26.05.90",
    "series": "26.05",
    "spack_version": "26-05-90-1",
    "tag": "slurm-26-05-90-1",
    "date": "2026-12-01",
    "sha256": "d" * 64,
}

BACKPORTS = {
    "name": "deb14u1",
    "pool": "pool/updates/main/s/slurm-wlm/x.debian.tar.xz",
    "uploaded": "2026-12-02",
    "sha256": "e" * 64,
    "size": 1,
    "patches": ["debian/patches/a.patch"],
    "fixes": ["CVE-2026-1"],
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache")


def write(path: Path, *entries: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": "A test.", "releases": entries}))
    return path


def known(settings: Settings, **options: bool) -> dict[str, str | None]:
    releases = known_releases(settings, Listener(), **options)
    return {release.release: release.sha256 for release in releases}


def upstream(directory: Path, *tags: str) -> Path:
    """A repository with a commit for each of the tags."""
    make_repository(directory, {"configure": "x"})
    for tag in tags:
        year, month, micro, release = tag.removeprefix("slurm-").split("-")
        version = f"{year}.{month}.{micro}"
        write_files(directory, {"META": META.format(version=version, release=release)})
        commit(directory, tag)
        run_git(directory, "tag", tag)
    return directory


def test_shipped_catalog_is_what_is_known_without_others(settings: Settings) -> None:
    assert known_releases(settings, Listener()) == catalog()


def test_last_catalog_wins(tmp_path: Path, settings: Settings) -> None:
    own = dict(NEW, sha256="a" * 64)
    write(settings.own_catalog, own)
    assert known(settings)["26.05.90"] == "a" * 64
    first = write(tmp_path / "first.json", NEW)
    second = write(tmp_path / "second.json", dict(NEW, sha256="e" * 64))
    both = settings.model_copy(update={"catalogues": (str(first), f"file://{second}")})
    assert known(both)["26.05.90"] == "e" * 64
    releases = known_releases(both, Listener())
    assert releases[-1].release == "26.05.90"
    assert find_release("latest", releases) == find_release("26.05", releases) == releases[-1]
    plan = sample_plan("latest", catalog=releases)
    assert plan.stem == "slurm-26.05.90-debian-12-system"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"releases": 1}',
        '{"releases": [1]}',
        '{"releases": [{}]}',
        "\x00",
        "[" * 100_000,
        json.dumps({"releases": [dict(NEW, release="26.05.90/../x")]}),
        json.dumps({"releases": [dict(NEW, tag="$(id)")]}),
        json.dumps({"releases": [dict(NEW, sha256="abc")]}),
        json.dumps({"releases": [dict(NEW, date="yesterday")]}),
        json.dumps({"releases": [dict(NEW, more=1)]}),
        json.dumps({"releases": [dict(NEW, date="2026-99-99")]}),
        json.dumps({"releases": [dict(NEW, release="26.05.90zz1")]}),
        json.dumps({"releases": [dict(NEW, location="http://[::1")]}),
        json.dumps({"releases": [dict(NEW, archive="../x.tar.gz")]}),
        json.dumps({"releases": [dict(NEW, backports=dict(BACKPORTS, name="../x"))]}),
        json.dumps({"releases": [dict(NEW, backports=dict(BACKPORTS, sha256="../x"))]}),
        json.dumps({"releases": [dict(NEW, backports=dict(BACKPORTS, patches=["/etc/x;y"]))]}),
    ],
)
def test_malformed_catalog_is_named(tmp_path: Path, settings: Settings, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    changed = settings.model_copy(update={"catalogues": (str(path),)})
    with pytest.raises(ConfigurationError, match=r"bad\.json cannot be used") as caught:
        known(changed)
    assert "\n" not in caught.value.details


def test_missing_catalog_is_named(settings: Settings) -> None:
    changed = settings.model_copy(update={"catalogues": ("/nonexistent",)})
    with pytest.raises(ConfigurationError, match="/nonexistent"):
        known(changed)


def test_catalog_of_a_url_is_kept_for_bad_days(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://user:secret@h.example/c.json"
    changed = settings.model_copy(update={"catalogues": (url,)})
    answers: list[Any] = [json.dumps({"releases": [NEW]}).encode()]

    def read(*_: object) -> bytes:
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return bytes(answer)

    monkeypatch.setattr(copies, "_read", read)
    with pytest.raises(DownloadError, match="no copy") as caught:
        known(changed, offline=True)
    assert "secret" not in str(caught.value)
    assert "26.05.90" in known(changed)
    answers[0] = TransferError("HTTP 500")
    reporter = Listener()
    assert known_releases(changed, reporter)[-1].release == "26.05.90"
    assert "HTTP 500" in reporter.warnings[0]
    assert "secret" not in reporter.warnings[0]
    # A page for guests of a network, for instance.
    answers[0] = b"<html>Please log in.</html>"
    assert "26.05.90" in known(changed)
    assert "26.05.90" in known(changed, offline=True)
    answers[0] = TransferError("HTTP 500")
    other = changed.model_copy(update={"catalogues": ("http://h.example/other.json",)})
    with pytest.raises(DownloadError, match="HTTP 500"):
        known(other)


def test_new_tags_of_a_repository_enter_the_own_catalog(tmp_path: Path, settings: Settings) -> None:
    tags = ("slurm-26-05-3-1", "slurm-26-05-91-1", "slurm-27-05-0-0rc1", "slurm-22-05-91-1")
    repository = upstream(tmp_path / "slurm", *tags, "slurm-27-05-0-1")
    changed = settings.model_copy(update={"slurm_url": str(repository)})
    found = update(changed, Listener())
    assert [release.release for release in found] == ["26.05.91", "27.05.0"]
    assert known_releases(changed, Listener())[-1] == found[-1]
    assert update(changed, Listener()) == ()
    # The archive is in the cache, and can be had again without it.
    source = slurm_source(found[-1], ())
    stored = cached(source, changed.source_cache_dir)
    assert stored
    stored.unlink()
    fetch_source_archives({"slurm": source}, changed, Listener())
    assert cached(source, changed.source_cache_dir)


def test_new_tags_of_a_server_without_archives_are_taken_as_commits(
    tmp_path: Path, settings: Settings
) -> None:
    repository = upstream(tmp_path / "slurm", "slurm-26-05-91-1")
    with served(repository) as server:
        changed = settings.model_copy(update={"slurm_url": server.url})
        (found,) = update(changed, Listener())
    assert found.location.startswith(f"git+{server.url}@")
    assert (found.commit, found.tag) == ("", "slurm-26-05-91-1")


def test_archive_of_a_mirror_is_taken_first(tmp_path: Path, settings: Settings) -> None:
    repository = upstream(tmp_path / "slurm", "slurm-26-05-91-1")
    archive = ("archive", "--format=tar.gz", "--prefix=slurm/", "--output")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    run_git(repository, *archive, str(mirror / "slurm-26-05-91-1.tar.gz"), "slurm-26-05-91-1")
    changed = settings.model_copy(
        update={"slurm_url": str(repository), "source_mirrors": (f"file://{mirror}",)}
    )
    (found,) = update(changed, Listener())
    assert slurm_source(found, ()).extension == ".tar.gz"


def test_archive_that_is_another_release_is_not_recorded_under_this_ones_name(
    tmp_path: Path, settings: Settings
) -> None:
    repository = upstream(tmp_path / "slurm", "slurm-26-05-91-1", "slurm-25-11-91-1")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    archive = ("archive", "--format=tar.gz", "--prefix=slurm/", "--output")
    run_git(repository, *archive, str(mirror / "slurm-26-05-91-1.tar.gz"), "slurm-25-11-91-1")
    (mirror / "slurm-25-11-91-1.tar.gz").write_text("<html>Please log in.</html>")
    changed = settings.model_copy(
        update={"slurm_url": str(repository), "source_mirrors": (f"file://{mirror}",)}
    )
    reporter = Listener()
    found = update(changed, reporter)
    assert [release.release for release in found] == ["25.11.91", "26.05.91"]
    assert all(release.location.startswith("git+") for release in found)
    assert "26.05.91" in reporter.warnings[1]
    # One whose own commit is wrong does not stop the others.
    run_git(repository, "tag", "slurm-26-05-92-1")
    run_git(repository, "tag", "--force", "slurm-26-05-93-1", "slurm-25-11-91-1")
    write_files(repository, {"META": META.format(version="26.05.94", release="1")})
    commit(repository, "94")
    run_git(repository, "tag", "slurm-26-05-94-1")
    assert [release.release for release in update(changed, Listener())] == ["26.05.94"]


def test_repository_that_does_not_answer_changes_nothing(
    tmp_path: Path, settings: Settings
) -> None:
    repository = upstream(tmp_path / "slurm", "slurm-26-05-91-1")
    with served(repository) as server:
        server.script += [status("404 Not Found")] * 20
        changed = settings.model_copy(update={"slurm_url": server.url})
        with pytest.raises(DownloadError, match="does not tell"):
            update(changed, Listener())
    assert not settings.own_catalog.exists()
