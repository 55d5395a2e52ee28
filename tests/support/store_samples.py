"""Packages, and what every kind of store has to do with them."""

import threading
from pathlib import Path
from typing import Any

import pytest
from package_samples import publish_package
from plan_samples import sample_settings

from slurm_factory.config import Settings
from slurm_factory.output.reporter import make_reporter
from slurm_factory.package.publish import find_artifacts
from slurm_factory.stores.fetch import Fetched, Wanted, fetch, read_index
from slurm_factory.stores.places import open_store, open_to_publish
from slurm_factory.stores.publish import Published, publish

STEM = "slurm-25.05"


def site(tmp_path: Path, name: str = "cache") -> Settings:
    """Settings of a site with a cache directory of its own."""
    return sample_settings(tmp_path / name, download_timeout=5)


def build(
    settings: Settings,
    release: str = "25.05.8",
    kind: str = "",
    *,
    version: str = "25.05",
    **changes: Any,
) -> Path:
    """A finished build of a version; returns its manifest."""
    settings.cache_dir.mkdir(exist_ok=True, mode=0o700)
    (settings.cache_dir / ".slurm-factory-cache").touch()
    return publish_package(settings.builds_dir / version, release, kind, **changes)


def send(settings: Settings, url: str, *manifests: Path, keep: int | None = None) -> Published:
    with make_reporter(quiet=True) as reporter:
        return publish(manifests, open_to_publish(url, settings), settings, reporter, keep=keep)


def get(settings: Settings, url: str, name: str = STEM, **options: str) -> Fetched:
    with make_reporter(quiet=True) as reporter:
        return fetch(Wanted(name, **options), open_store(url, settings), settings, reporter)


def stems(settings: Settings, url: str) -> list[str]:
    return [each.stem for each in read_index(open_store(url, settings)).packages]


def content_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


class Contract:
    """What every store has to do; a class of tests for each kind inherits it.

    A fixture `url` is the URL of an empty store.
    """

    def test_a_package_arrives_as_it_was_built(self, url: str, tmp_path: Path) -> None:
        here, there = site(tmp_path), site(tmp_path, "other")
        manifest = build(here)
        (manifest.parent / f"{STEM}-verification.json").write_text("{}")
        published = send(here, url, manifest)
        assert [each.stem for each in published.added] == [STEM]
        fetched = get(there, url)
        assert not fetched.up_to_date
        assert content_of(fetched.manifest_path.parent) == content_of(manifest.parent)
        assert [each.problem for each in find_artifacts(there.builds_dir)] == [""]
        assert [*there.work_dir.iterdir()] == []

    def test_what_is_there_is_neither_sent_nor_fetched_again(
        self, url: str, tmp_path: Path
    ) -> None:
        here, there = site(tmp_path), site(tmp_path, "other")
        manifest = build(here)
        send(here, url, manifest)
        before = read_index(open_store(url, here))
        again = send(here, url, manifest)
        assert (again.added, [each.stem for each in again.unchanged]) == ((), [STEM])
        assert read_index(open_store(url, here)) == before
        get(there, url)
        assert get(there, url).up_to_date

    def test_a_new_build_replaces_the_older_one_of_its_name(self, url: str, tmp_path: Path) -> None:
        here, there = site(tmp_path), site(tmp_path, "other")
        send(here, url, build(here))
        get(there, url)
        second = send(here, url, build(here, "25.05.9"))
        assert [each.identity.release for each in second.added] == ["25.05.9"]
        assert stems(here, url) == [STEM]
        assert get(there, url).manifest.identity.release == "25.05.9"

    def test_a_reader_with_an_older_index_reads_the_new_one(self, url: str, tmp_path: Path) -> None:
        here, there = site(tmp_path), site(tmp_path, "other")
        send(here, url, build(here))
        store = open_store(url, there)
        stale = [store.index()]
        send(here, url, build(here, "25.05.9"))
        look = store.index
        store.index = lambda: stale.pop() if stale else look()  # type: ignore[method-assign]
        with make_reporter(quiet=True) as reporter:
            fetched = fetch(Wanted(STEM), store, there, reporter)
        # A registry keeps what has lost its tag until somebody collects garbage.
        assert fetched.manifest.identity.release in {"25.05.8", "25.05.9"}
        assert stale == []

    def test_a_publication_that_was_killed_is_invisible_and_can_be_repeated(
        self, url: str, tmp_path: Path
    ) -> None:
        here = site(tmp_path)
        send(here, url, build(here))
        store = open_to_publish(url, here)

        def die(*_: object) -> bool:
            raise KeyboardInterrupt

        store.replace = die  # type: ignore[assignment,method-assign]
        gpu = build(here, kind="-gpu")
        with make_reporter(quiet=True) as reporter, pytest.raises(KeyboardInterrupt):
            publish([gpu], store, here, reporter)
        assert stems(here, url) == [STEM]
        assert [*here.work_dir.iterdir()] == []
        send(here, url, gpu)
        assert stems(here, url) == [STEM, f"{STEM}-gpu"]

    def test_all_of_several_publishers_at_once_are_named(self, url: str, tmp_path: Path) -> None:
        sites = [site(tmp_path, f"site{number}") for number in range(4)]
        manifests = [build(each, kind=f"-site{n}") for n, each in enumerate(sites)]
        failures: list[BaseException] = []

        def run(number: int) -> None:
            try:
                send(sites[number], url, manifests[number])
            except BaseException as error:  # noqa: BLE001  # told below
                failures.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(sites))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert stems(sites[0], url) == [f"{STEM}-site{number}" for number in range(len(sites))]

    def test_keep_removes_older_packages_of_the_same_kind(self, url: str, tmp_path: Path) -> None:
        here, there = site(tmp_path), site(tmp_path, "other")
        first = build(here, "25.05.7", version="25.05.7")
        second = build(here, "25.05.8", version="25.05.8")
        gpu = build(here, "25.05.7", "-gpu", version="25.05.7")
        send(here, url, first, second, gpu)
        published = send(here, url, second, keep=1)
        assert [each.stem for each in published.removed] == ["slurm-25.05.7"]
        assert stems(here, url) == ["slurm-25.05.7-gpu", "slurm-25.05.8"]
        assert get(there, url, "slurm-25.05.7-gpu").manifest.identity.release == "25.05.7"
        assert "slurm-25.05.7" not in self.stored(url)

    def stored(self, url: str) -> set[str]:
        """Names of packages of which files are left."""
        raise NotImplementedError
