"""Sources of Spack's packages: fetched and missing ones, and their messages."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plan_samples import spack_plan
from spack_samples import LOCK, LZ4, MUNGE, SLURM, StandIn, description, stand_in

from slurm_factory.buildcaches.layout import ENTRIES
from slurm_factory.exceptions import DownloadError, SlurmFactoryError, SpackError
from slurm_factory.fetch.sources import Source
from slurm_factory.recipes.spack import packages as spack_packages
from slurm_factory.recipes.spack import sources as spack_sources
from slurm_factory.recipes.spack.build import build, prefetch
from slurm_factory.recipes.spack.lock import Lock, read_lock
from slurm_factory.recipes.spack.packages import PUBLIC_MIRROR, parse
from slurm_factory.recipes.spack.session import Spack
from slurm_factory.recipes.spack.sources import (
    fetch_skipped,
    fetch_sources,
    require_sources,
)

COMMIT = "_source-cache/git/madler/zlib.git/51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf.tar.gz"


class Upstream:
    """A directory that sources are fetched from, and what Spack says of them."""

    def __init__(self, here: StandIn) -> None:
        self.here = here
        self.directory = here.folder / "upstream"
        self.directory.mkdir()
        self.names: dict[str, str] = {}
        self.sources: dict[str, list[dict[str, Any]]] = {}

    def offers(self, digest: str, name: str, *, ending: str = ".tar.gz") -> Path:
        """Add an available source to a package; returns its upstream path."""
        number = sum(map(len, self.sources.values()))
        path = self.directory / f"{name}-{number}{ending}"
        path.write_text(path.name)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        stored_as = f"_source-cache/archive/{sha256[:2]}/{sha256}{ending}"
        self.says(digest, name, sha256, stored_as, f"file://{path}")
        return path

    def says(self, digest: str, name: str, sha256: str | None, path: str, *urls: str) -> None:
        self.names[digest] = name
        row = {"sha256": sha256, "stored_as": path, "urls": urls}
        self.sources.setdefault(digest, []).append(row)
        self.here.answers("python", "\n".join(["==> Warning: of Spack", *self.rows]) + "\n")

    @property
    def rows(self) -> list[str]:
        """What Spack says of each package."""
        names = self.names.items()
        return [description(digest, name, "1.0", *self.sources[digest]) for digest, name in names]

    @property
    def fetched(self) -> set[str]:
        """Texts of what is in the source cache."""
        cache = self.here.spack.job.settings.source_cache_dir / "_source-cache"
        return {path.read_text() for path in cache.rglob("*") if path.is_file()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(spack_packages, "PUBLIC_MIRROR", "http://mirror.invalid")
    with stand_in(tmp_path) as here:
        yield here


@pytest.fixture
def upstream(here: StandIn) -> Upstream:
    return Upstream(here)


@pytest.fixture
def lock() -> Lock:
    return read_lock(json.dumps(LOCK))


def push(here: StandIn, name: str, digest: str, version: str = "1.0") -> None:
    """Let the build cache have a package."""
    entries = here.spack.job.settings.buildcache_dir / ENTRIES / name
    entries.mkdir(parents=True)
    (entries / f"{name}-{version}-{digest}.spec.manifest.json").write_text("{}")


def with_build_cache(spack: Spack) -> Spack:
    """The same with a remote build cache in the settings."""
    choice = replace(spack.choice, buildcaches=("http://cache.invalid",))
    plan = spack_plan(minimal=True, spack=choice, offline=spack.job.offline)
    return replace(spack, job=replace(spack.job, plan=plan))


def offline(here: StandIn) -> Spack:
    return replace(here.spack, job=replace(here.spack.job, offline=True))


@pytest.mark.parametrize("ending", [".tar.gz", ".patch", ""])
def test_a_source_is_kept_where_spack_looks_for_it(upstream: Upstream, ending: str) -> None:
    upstream.offers(MUNGE, "munge", ending=ending)
    (found,) = parse(upstream.rows[0]).sources
    assert found.source
    assert found.source.stored_as == found.stored_as
    assert found.stored_as.name.endswith(ending)


def test_spacks_own_mirror_is_asked_last_and_protocols_of_clones_never() -> None:
    path = f"_source-cache/archive/ab/{'ab' * 32}.tar.xz"
    urls = ["https://a/x.tar.xz", "git://b/x", "https://a/x.tar.xz", "ftp://c/x.tar.xz"]
    row = {"sha256": "ab" * 32, "stored_as": path, "urls": urls}
    (found,) = parse(description(MUNGE, "munge", "1", row)).sources
    assert found.source
    assert found.source.urls == ("https://a/x.tar.xz", f"{PUBLIC_MIRROR}/{path}")


@pytest.mark.parametrize(
    ("digest", "path"),
    [("ab" * 32, "/etc/shadow"), (None, "_source-cache/../../shadow"), ("../x", "x")],
)
def test_a_path_outside_the_source_cache_is_refused(
    here: StandIn, lock: Lock, digest: str | None, path: str
) -> None:
    row: dict[str, Any] = {"sha256": digest, "stored_as": path, "urls": []}
    here.answers("python", description(MUNGE, "munge", "1", row))
    with pytest.raises(SpackError, match="cannot be read"):
        fetch_sources(here.spack, lock)


def test_what_is_in_the_build_cache_needs_no_sources(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.offers(MUNGE, "munge")
    upstream.offers(LZ4, "lz4")
    upstream.offers(LZ4, "lz4-patch", ending="")
    push(here, "munge", MUNGE, version="git.abc_1.0")
    fetch_sources(here.spack, lock)
    assert upstream.fetched == {"lz4-1.tar.gz", "lz4-patch-2"}


def test_spack_is_not_asked_where_everything_is_in_the_build_cache(
    here: StandIn, lock: Lock
) -> None:
    for name, digest in (("slurm", SLURM), ("munge", MUNGE), ("lz4", LZ4)):
        push(here, name, digest)
    fetch_sources(here.spack, lock)
    assert here.calls == []


def test_prefetch_fetches_also_what_is_in_the_build_cache_of_this_machine(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.offers(MUNGE, "munge")
    push(here, "munge", MUNGE)
    paths = fetch_sources(here.spack, lock, every=True)
    assert [path.read_text() for path in paths] == ["munge-0.tar.gz"]


def test_a_build_stops_at_a_source_that_cannot_be_fetched_and_shows_where_to_put_it(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.offers(MUNGE, "munge").unlink()
    with pytest.raises(DownloadError, match=r"munge 1\.0 could not be downloaded") as caught:
        fetch_sources(here.spack, lock)
    assert str(here.spack.job.settings.source_cache_dir) in caught.value.resolution


def test_prefetch_fetches_all_it_can_and_names_each_source_that_cannot_be_fetched(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.offers(MUNGE, "munge").unlink()
    upstream.offers(LZ4, "lz4")
    upstream.offers(SLURM, "slurm").write_text("something else")
    with pytest.raises(DownloadError, match="2 sources") as caught:
        fetch_sources(here.spack, lock, every=True)
    assert "munge 1.0 could not be downloaded" in caught.value.details
    assert "slurm 1.0 is not the expected file" in caught.value.details
    assert "install -D" in caught.value.resolution
    assert upstream.fetched == {"lz4-1.tar.gz"}


def test_what_came_from_a_remote_build_cache_needs_no_sources(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.offers(MUNGE, "munge")
    upstream.offers(LZ4, "lz4")
    fetch_sources(here.spack, lock, remote=frozenset({MUNGE}))
    assert upstream.fetched == {"lz4-1.tar.gz"}


def test_spack_is_not_asked_where_build_caches_have_everything(here: StandIn, lock: Lock) -> None:
    push(here, "slurm", SLURM)
    fetch_sources(here.spack, lock, remote=frozenset({MUNGE, LZ4}))
    assert here.calls == []


def test_what_was_left_out_is_fetched_in_its_order_up_to_the_first_that_cannot_be_fetched(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.offers(MUNGE, "munge").unlink()
    upstream.offers(LZ4, "lz4")
    upstream.says(SLURM, "slurm", None, COMMIT)
    nodes = {node.hash: node for node in lock.packages}
    assert not fetch_skipped(here.spack, [nodes[MUNGE], nodes[LZ4]])
    assert upstream.fetched == set()
    assert fetch_skipped(here.spack, [nodes[LZ4], nodes[MUNGE], nodes[SLURM]])
    assert upstream.fetched == {"lz4-1.tar.gz"}
    assert not fetch_skipped(here.spack, [nodes[LZ4], nodes[MUNGE]])


def test_slurm_comes_from_where_our_catalog_knows_it_when_no_place_of_its_recipe_has_it(
    here: StandIn, upstream: Upstream, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = upstream.offers(SLURM, "slurm")
    elsewhere = path.rename(path.with_name("slurm.orig.tar.gz"))
    sha256 = hashlib.sha256(elsewhere.read_bytes()).hexdigest()
    ours = Source("Slurm", sha256, None, (f"file://{elsewhere}",), ".tar.gz")
    monkeypatch.setattr(spack_sources, "sources_for", lambda *_, **__: {"slurm": ours})
    fetch_sources(here.spack, lock)
    assert upstream.fetched == {path.name}


def test_commit_of_a_repository_that_spack_cannot_fetch_is_left_to_the_installation(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.says(LZ4, "lz4", None, COMMIT)
    assert fetch_sources(here.spack, lock) == ()
    assert [call.split()[0] for call in here.calls] == ["python", "fetch"]


def test_commit_of_a_repository_that_spack_fetches_is_kept_for_later_builds(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.says(LZ4, "lz4", None, COMMIT)
    fetched = Path(here.spack.instance.build_dir) / "spack-sources" / COMMIT
    fetched.parent.mkdir(parents=True)
    fetched.write_text("an archive")
    kept = here.spack.job.settings.source_cache_dir / COMMIT
    assert fetch_sources(here.spack, lock) == (kept,)
    assert kept.read_text() == "an archive"


def test_prefetch_lets_spack_fetch_a_commit_and_shows_where_it_can_be_put_if_that_fails(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.says(LZ4, "lz4", None, COMMIT)
    here.answers("fetch", "==> Error: spack requires 'git'. Make sure it is in your path.\n", 1)
    with pytest.raises(DownloadError, match=r"lz4 1\.0, a commit") as caught:
        fetch_sources(here.spack, lock, every=True)
    path = here.spack.job.settings.source_cache_dir / COMMIT
    assert "requires 'git'" in caught.value.details
    assert str(path) in caught.value.resolution
    assert f"fetch /{LZ4}" in here.calls
    path.parent.mkdir(parents=True)
    path.write_text("the archive")
    assert fetch_sources(here.spack, lock, every=True) == (path,)
    assert here.calls[-1] == f"fetch /{LZ4}"


def test_a_spack_that_does_not_tell_the_sources_is_one_clear_error(
    here: StandIn, lock: Lock
) -> None:
    here.answers("python", "==> Error: no module named spack.environment\n", 1)
    with pytest.raises(SpackError, match="does not describe its packages") as caught:
        fetch_sources(here.spack, lock)
    assert "no module named" in caught.value.details


# --- offline ------------------------------------------------------------------------------------


def test_offline_names_every_package_without_sources_and_the_command_that_fetches_them(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.offers(MUNGE, "munge")
    upstream.offers(MUNGE, "munge", ending=".patch")
    upstream.offers(SLURM, "slurm")
    upstream.says(LZ4, "lz4", None, COMMIT)
    push(here, "slurm", SLURM)
    with pytest.raises(DownloadError) as caught:
        require_sources(here.spack, lock)
    assert caught.value.details == "Missing: sources of munge 1.0, sources of lz4 1.0."
    told = "`slurm-factory prefetch --slurm-version 24.11 --minimal --base debian@12`"
    assert told in caught.value.resolution
    assert f"copy {here.spack.job.settings.cache_dir} from there" in caught.value.resolution
    assert upstream.fetched == set()


def test_a_damaged_source_in_the_cache_counts_as_missing(
    here: StandIn, upstream: Upstream, lock: Lock
) -> None:
    upstream.offers(MUNGE, "munge")
    (path,) = fetch_sources(here.spack, lock)
    require_sources(here.spack, lock)
    path.write_text("damaged")
    with pytest.raises(DownloadError, match="offline"):
        require_sources(here.spack, lock)


def test_an_offline_build_fails_before_spack_installs_anything(
    here: StandIn, upstream: Upstream
) -> None:
    upstream.offers(MUNGE, "munge")
    spack = offline(here)
    with pytest.raises(DownloadError, match="offline"):
        build(spack.job, spack.instance, spack.paths)
    assert [call.split()[0] for call in here.calls] == ["concretize", "python"]
    assert upstream.fetched == set()


def test_spack_knows_of_no_mirror_elsewhere_in_an_offline_build(
    here: StandIn, upstream: Upstream
) -> None:
    upstream.offers(MUNGE, "munge")
    spack = with_build_cache(offline(here))
    with pytest.raises(DownloadError):
        build(spack.job, spack.instance, spack.paths)
    assert "buildcaches" not in (here.folder / "project/spack.yaml").read_text()


def test_prefetch_lets_spack_decide_as_an_offline_build_does(
    here: StandIn, upstream: Upstream
) -> None:
    """Other build caches would change the graph, and so which sources are wanted."""
    upstream.offers(MUNGE, "munge")
    spack = with_build_cache(offline(here))
    prefetch(spack.job, spack.instance, spack.paths)
    with suppress(SlurmFactoryError):
        build(spack.job, spack.instance, spack.paths)
    assert [call.split()[0] for call in here.calls].count("concretize") == 1


def test_what_prefetch_fetched_is_enough_for_an_offline_build_and_the_second_time_for_itself(
    here: StandIn, upstream: Upstream
) -> None:
    paths = here.spack.paths
    for digest, name in ((SLURM, "slurm"), (MUNGE, "munge"), (LZ4, "lz4")):
        upstream.offers(digest, name)
    first = prefetch(here.spack.job, here.spack.instance, paths)
    assert len(first) == 3
    for path in upstream.directory.iterdir():
        path.unlink()
    assert prefetch(here.spack.job, here.spack.instance, paths) == first
    assert [call.split()[0] for call in here.calls] == ["concretize", "python", "python"]
    require_sources(offline(here), read_lock(json.dumps(LOCK)))
