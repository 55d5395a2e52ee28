"""A build takes packages from build caches elsewhere by way of this machine."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import store_servers
from buildcache_samples import Signer, add_package, signer
from spack_samples import LOCK, LZ4, MUNGE, SLURM, StandIn, stand_in

from slurm_factory.buildcaches.caches import cache_at
from slurm_factory.buildcaches.layout import blob_path, entry_path, index_entry, listed_in
from slurm_factory.buildcaches.publishing import Publisher, publish_packages
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.package.manifest import SpackPackage
from slurm_factory.recipes.spack.lock import Lock, read_lock
from slurm_factory.recipes.spack.project import write_project
from slurm_factory.recipes.spack.remote import show_indexes, take_remote_packages
from slurm_factory.recipes.spack.session import Spack

ROWS = {digest: {**row, "hash": digest} for digest, row in LOCK["concrete_specs"].items()}
LOCKED = LOCK | {"concrete_specs": ROWS}


@pytest.fixture
def lock() -> Lock:
    return read_lock(json.dumps(LOCKED))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[StandIn]:
    with stand_in(tmp_path, LOCKED) as here:
        yield here


@pytest.fixture(scope="module")
def someone() -> Iterator[Signer]:
    store_servers.require("gpg", "gpg-agent")
    with signer("signer") as someone:
        yield someone


def publish(here: StandIn, lock: Lock, *hashes: str, key: str = "", name: str = "shared") -> str:
    """Let somebody publish packages; returns the URL of their build cache."""
    shared, local = here.folder / name, here.folder / "theirs"
    shared.mkdir(exist_ok=True)
    for digest in hashes:
        add_package(local, lock, lock.nodes[digest])
    url = f"file://{shared}"
    Publisher(local, cache_at(url, 1.0), key).publish([lock.nodes[digest] for digest in hashes])
    return url


def taking(here: StandIn, *urls: str, signed: bool = False, keys: Path | None = None) -> Spack:
    job = here.spack.job
    choice = replace(here.spack.choice, buildcaches=urls, signed=signed)
    settings = job.settings.model_copy(update={"spack_buildcache_keys": keys})
    spack = replace(
        here.spack, job=replace(job, plan=replace(job.plan, spack=choice), settings=settings)
    )
    write_project(spack)
    return spack


def seen(spack: Spack, number: int = 0) -> Path:
    """What the instance sees of a build cache, where spack.yaml has it."""
    return Path(spack.paths.caches) / spack.choice.remote_buildcaches[number]


def index_of(view: Path) -> frozenset[str]:
    manifest = json.loads((view / "v3/manifests/index/index.manifest.json").read_text())
    return listed_in((view / blob_path(manifest["data"][0]["checksum"])).read_bytes())


def test_spack_decides_by_what_is_there_and_sees_what_was_taken(here: StandIn, lock: Lock) -> None:
    spack = taking(here, publish(here, lock, LZ4, MUNGE))
    show_indexes(spack)
    assert index_of(seen(spack)) == {LZ4, MUNGE}
    assert not (seen(spack) / entry_path(lock.nodes[LZ4])).exists()
    taken = take_remote_packages(spack, lock, [lock.nodes[LZ4], lock.nodes[SLURM]])
    assert taken.hashes == {LZ4}
    (use,) = taken.uses
    assert (use.wanted, use.taken, use.refused) == (2, 1, 0)
    assert index_of(seen(spack)) == {LZ4}
    assert (seen(spack) / entry_path(lock.nodes[LZ4])).exists()
    assert "had 1 of 2 packages" in here.screen.getvalue()
    assert "Warning" not in here.screen.getvalue()


def test_a_second_build_cache_is_asked_for_what_the_first_has_not(
    here: StandIn, lock: Lock
) -> None:
    urls = publish(here, lock, LZ4), publish(here, lock, LZ4, MUNGE, name="second")
    spack = taking(here, *urls)
    taken = take_remote_packages(spack, lock, lock.packages)
    assert [(use.wanted, use.taken) for use in taken.uses] == [(3, 1), (2, 1)]
    assert index_of(seen(spack, 1)) == {MUNGE}


def no_index(root: Path) -> None:
    (root / "v3/manifests/index/index.manifest.json").unlink()


def half_an_index(root: Path) -> None:
    (root / "v3/manifests/index/index.manifest.json").write_text('{"version": 3, "da')


def wrong_index(root: Path) -> None:
    manifest, checksum = index_entry(b'{"database": []}')
    place = root / blob_path(checksum)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b'{"database": []}')
    (root / "v3/manifests/index/index.manifest.json").write_bytes(manifest)


def damaged_index(root: Path) -> None:
    manifest = json.loads((root / "v3/manifests/index/index.manifest.json").read_text())
    (root / blob_path(manifest["data"][0]["checksum"])).write_bytes(b"{}")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (no_index, "it has no index"),
        (half_an_index, "its index is damaged"),
        (wrong_index, "its index is damaged"),
        (damaged_index, "its index is damaged"),
    ],
)
def test_without_an_index_spack_decides_alone_and_packages_are_taken_all_the_same(
    here: StandIn, lock: Lock, spoil: Callable[[Path], None], why: str
) -> None:
    url = publish(here, lock, LZ4)
    spoil(Path(url.removeprefix("file://")))
    spack = taking(here, url)
    show_indexes(spack)
    assert index_of(seen(spack)) == frozenset()
    warnings = [line for line in here.screen.getvalue().splitlines() if "Warning" in line]
    assert len(warnings) == 1
    assert why in warnings[0]
    assert take_remote_packages(spack, lock, lock.packages).hashes == {LZ4}


def test_a_build_cache_that_is_gone_is_one_warning(here: StandIn, lock: Lock) -> None:
    spack = taking(here, "file:///nowhere/at/all")
    taken = take_remote_packages(spack, lock, lock.packages)
    assert (taken.hashes, index_of(seen(spack))) == (frozenset(), frozenset())
    warnings = [line for line in here.screen.getvalue().splitlines() if "Warning" in line]
    assert len(warnings) == 1
    assert "there is no such directory" in warnings[0]


def test_unsigned_and_forged_packages_are_refused_in_one_warning(
    here: StandIn, lock: Lock, someone: Signer
) -> None:
    spack = taking(here, publish(here, lock, LZ4, MUNGE), signed=True, keys=someone.keys)
    taken = take_remote_packages(spack, lock, lock.packages)
    assert (taken.hashes, taken.uses[0].refused) == (frozenset(), 2)
    warnings = [line for line in here.screen.getvalue().splitlines() if "Warning" in line]
    assert len(warnings) == 1
    assert "lz4@1.10.0 is not signed, munge@0.5.18 is not signed" in " ".join(warnings)


def test_signed_packages_are_taken_and_the_instance_has_neither_key_nor_signature(
    here: StandIn, lock: Lock, someone: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(someone.home))
    url = publish(here, lock, LZ4, key=someone.name)
    monkeypatch.delenv("GNUPGHOME")
    spack = taking(here, url, signed=True, keys=someone.keys)
    assert take_remote_packages(spack, lock, lock.packages).hashes == {LZ4}
    entry = (seen(spack) / entry_path(lock.nodes[LZ4])).read_text()
    assert json.loads(entry)["version"] == 3
    assert not list(spack.input.rglob("*.asc"))


def test_without_keys_nothing_signed_is_taken_or_decides(here: StandIn, lock: Lock) -> None:
    spack = taking(here, publish(here, lock, LZ4), signed=True)
    show_indexes(spack)
    assert index_of(seen(spack)) == frozenset()
    assert take_remote_packages(spack, lock, lock.packages).hashes == frozenset()
    assert "SLURM_FACTORY_SPACK_BUILDCACHE_KEYS does not" in here.screen.getvalue()


def test_keys_that_are_none_end_the_build(here: StandIn, lock: Lock, tmp_path: Path) -> None:
    store_servers.require("gpg")
    keys = tmp_path / "keys.asc"
    keys.write_text("no key")
    spack = taking(here, publish(here, lock, LZ4), signed=True, keys=keys)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        take_remote_packages(spack, lock, lock.packages)


# --- what a build publishes ---------------------------------------------------------------------


def packages(lock: Lock) -> list[SpackPackage]:
    return [
        SpackPackage(
            name=n.name, version=n.version, hash=n.hash, run_time=True, cached=False, seconds=0
        )
        for n in lock.packages
    ]


def publishing(here: StandIn, url: str, **changes: Any) -> Any:
    settings = here.spack.job.settings.model_copy(
        update={"spack_buildcache_publish": url, **changes}
    )
    return replace(here.spack.job, settings=settings)


def test_a_build_publishes_what_this_machine_has_built_and_nothing_that_it_took(
    here: StandIn, lock: Lock
) -> None:
    spack = taking(here, publish(here, lock, MUNGE))
    take_remote_packages(spack, lock, lock.packages)
    add_package(here.spack.buildcaches[0], lock, lock.nodes[LZ4])
    ours = here.folder / "ours"
    ours.mkdir()
    publish_packages(publishing(here, f"file://{ours}"), packages(lock))
    assert listed_in(cache_at(f"file://{ours}", 1.0).index(here.folder)) == {LZ4}
    assert "Published 1 packages" in here.screen.getvalue()
    assert "not signed" in here.screen.getvalue()


@pytest.mark.parametrize(
    ("url", "key", "why"),
    [
        ("file:///nowhere/at/all", None, "there is no such directory"),
        ("file://{here}", "nobody@nowhere.example", "has no secret key of this name"),
    ],
)
def test_a_build_does_not_fail_because_it_cannot_publish(
    here: StandIn, lock: Lock, url: str, key: str | None, why: str
) -> None:
    store_servers.require("gpg")
    add_package(here.spack.buildcaches[0], lock, lock.nodes[LZ4])
    job = publishing(here, url.format(here=here.folder), sign_key=key)
    publish_packages(job, packages(lock))
    assert why in " ".join(here.screen.getvalue().split())


def test_nothing_is_published_where_nobody_asked_for_it(here: StandIn, lock: Lock) -> None:
    add_package(here.spack.buildcaches[0], lock, lock.nodes[LZ4])
    job = publishing(here, f"file://{here.folder}")
    with suppress(FileNotFoundError):
        publish_packages(replace(job, offline=True), packages(lock))
        publish_packages(here.spack.job, packages(lock))
    assert not (here.folder / "v3").exists()
