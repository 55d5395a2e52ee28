"""Packages go from one machine to another by way of a directory, a bucket or a registry."""

import base64
import dataclasses
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import store_servers
from buildcache_samples import Signer, add_package, description, signer
from spack_samples import CMAKE, LOCK, LZ4, MUNGE, SLURM

from slurm_factory.buildcaches import layout, publishing, taking
from slurm_factory.buildcaches.caches import Cache, Files, cache_at
from slurm_factory.buildcaches.layout import (
    Part,
    blob_path,
    describes,
    entry_path,
    is_whole,
    listed_in,
    parse_entry,
)
from slurm_factory.buildcaches.publishing import Publisher, update_index
from slurm_factory.buildcaches.signing import Trust, unsigned_payload
from slurm_factory.buildcaches.taking import Shelf, Taken
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch.http import MissingError, TransferError
from slurm_factory.recipes.spack.lock import Lock, Node, read_lock

TIMEOUT = 20.0


@pytest.fixture(scope="module")
def lock() -> Lock:
    rows = {digest: {**row, "hash": digest} for digest, row in LOCK["concrete_specs"].items()}
    return read_lock(json.dumps(LOCK | {"concrete_specs": rows}))


@pytest.fixture(scope="module")
def signers() -> Iterator[tuple[Signer, Signer]]:
    store_servers.require("gpg", "gpg-agent")
    with signer("signer") as one, signer("other") as other:
        yield one, other


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Starts a server of a kind once, and makes URLs in it."""
    number = iter(range(1000))
    found: dict[str, store_servers.Server] = {}
    with ExitStack() as stack:

        def url(kind: str) -> str:
            if kind == "file":
                return f"file://{tmp_path_factory.mktemp('shared')}"
            if kind not in found:
                start = {"oci": store_servers.registry, "s3": store_servers.s3_server}[kind]
                found[kind] = stack.enter_context(start(tmp_path_factory.mktemp(kind)))
                if kind == "s3":
                    os.environ.update(store_servers.s3_environment(found[kind]))
                    store_servers.bucket(found[kind], "caches")
            if kind == "oci":
                return f"oci://{found[kind].host}/team/cache-{next(number)}"
            return f"s3://caches/{next(number)}"

        yield url
        for name in store_servers.s3_environment(store_servers.Server("", Path(), None)):  # type: ignore[arg-type]
            os.environ.pop(name, None)


@dataclass
class Site:
    """One machine that publishes, another that takes."""

    url: str
    lock: Lock
    here: Path

    @property
    def cache(self) -> Cache:
        return cache_at(self.url, TIMEOUT)

    @property
    def local(self) -> Path:
        return self.here / "local"

    def build(self, *hashes: str) -> list[Node]:
        nodes = [self.lock.nodes[digest] for digest in hashes]
        for node in nodes:
            add_package(self.local, self.lock, node)
        return nodes

    def publish(self, *hashes: str, key: str = "") -> publishing.Published:
        return Publisher(self.local, self.cache, key).publish(self.build(*hashes))

    def take(self, *hashes: str, keys: Path | None = None, folder: str = "shelf") -> Taken:
        with Trust(keys, unsigned=keys is None) as trust:
            shelf = Shelf(
                self.here / folder,
                self.cache,
                trust,
                lambda rows, package: describes(rows, package, self.lock.rows),
            )
            wanted = [self.lock.nodes[digest] for digest in hashes]
            taken = shelf.take(wanted)
            shelf.show(taken, wanted, self.here / "view")
        return taken

    def index(self) -> frozenset[str]:
        return listed_in(self.cache.index(self.here))


@pytest.fixture(params=["file", "oci", "s3"])
def site(
    request: pytest.FixtureRequest, servers: Callable[[str], str], tmp_path: Path, lock: Lock
) -> Site:
    return Site(servers(request.param), lock, tmp_path)


@pytest.fixture
def shared(servers: Callable[[str], str], tmp_path: Path, lock: Lock) -> Site:
    """Where files can be spoiled."""
    return Site(servers("file"), lock, tmp_path)


@contextmanager
def as_user(someone: Signer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("GNUPGHOME", str(someone.home))
    yield someone.name
    monkeypatch.delenv("GNUPGHOME")


def test_what_one_machine_publishes_another_takes(site: Site) -> None:
    done = site.publish(LZ4, MUNGE)
    assert (done.new, done.before) == (("lz4@1.10.0", "munge@0.5.18"), 0)
    taken = site.take(LZ4, MUNGE, SLURM)
    assert (set(taken.payloads), taken.refused, taken.failure) == ({LZ4, MUNGE}, {}, "")
    for digest in (LZ4, MUNGE):
        entry = parse_entry((site.here / "view" / entry_path(site.lock.nodes[digest])).read_bytes())
        assert all(is_whole(site.here / "view" / blob_path(p.checksum)) for p in entry.parts)
    assert site.index() == {LZ4, MUNGE}


def test_what_is_there_is_published_once_and_the_index_has_all(site: Site) -> None:
    site.publish(LZ4)
    done = site.publish(LZ4, MUNGE)
    assert (done.new, done.before) == (("munge@0.5.18",), 1)
    assert site.index() == {LZ4, MUNGE}


def test_signed_packages_are_taken_by_the_keys_of_their_signer_alone(
    site: Site, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_user(signers[0], monkeypatch) as key:
        site.publish(LZ4, key=key)
    assert set(site.take(LZ4, keys=signers[0].keys).payloads) == {LZ4}
    refused = site.take(LZ4, keys=signers[1].keys, folder="other")
    assert (refused.payloads, refused.refused) == (
        {},
        {"lz4@1.10.0": "not signed by a trusted key"},
    )
    # The copy that was taken by another key does not count either.
    assert site.take(LZ4, keys=signers[1].keys).payloads == {}


def test_unsigned_packages_are_refused_and_replaced_by_who_signs(
    site: Site, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish(LZ4)
    refused = site.take(LZ4, keys=signers[0].keys)
    assert refused.refused == {"lz4@1.10.0": "not signed"}
    with as_user(signers[0], monkeypatch) as key:
        assert site.publish(LZ4, key=key).new == ("lz4@1.10.0",)
        assert site.publish(LZ4, key=key).before == 1
    assert set(site.take(LZ4, keys=signers[0].keys).payloads) == {LZ4}


def test_an_index_that_is_half_written_is_made_anew(site: Site) -> None:
    site.publish(LZ4)
    site.cache.put_index(b'{"database": {"inst', site.here)
    with pytest.raises(ValueError, match="JSON"):
        site.index()
    site.publish(MUNGE)
    assert site.index() == {LZ4, MUNGE}


def test_packages_are_taken_without_an_index(site: Site) -> None:
    (node,) = site.build(LZ4)
    publisher = Publisher(site.local, site.cache, "")
    site.cache.put(*_prepared(publisher, node, site.here))
    with pytest.raises(MissingError):
        site.index()
    assert set(site.take(LZ4).payloads) == {LZ4}


@pytest.mark.parametrize(
    ("free", "largest", "why"),
    [(1 << 20, 1 << 30, "too large for the free space"), (1 << 40, 10, "too large")],
    ids=["disk", "limit"],
)
def test_package_that_is_too_large_is_not_fetched(
    free: int, largest: int, why: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish(LZ4)
    usage = shutil.disk_usage(site.here)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(taking, "LARGEST_ARCHIVE", largest)
    assert site.take(LZ4).refused == {"lz4@1.10.0": why}


def _prepared(publisher: Publisher, node: Node, here: Path) -> tuple[Any, ...]:
    ((_, entry),) = publisher._entries([node])
    blobs = {part.checksum: publisher.local / blob_path(part.checksum) for part in entry.parts}
    folder = here / "prepared"
    folder.mkdir()
    entry = publisher.cache.prepare(entry, blobs, folder)
    blobs |= {path.name: path for path in folder.iterdir()}
    return node, entry, entry.text(), blobs


def test_two_who_publish_at_once_lose_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one publishes between our look at what is there and our index."""
    other = dataclasses.replace(site, here=site.here / "other")
    other.here.mkdir()
    made = layout.make_index
    others = iter([MUNGE])

    def make_index(*arguments: Any) -> bytes:
        content = made(*arguments)
        for digest in others:
            other.publish(digest)
        return content

    monkeypatch.setattr(publishing, "make_index", make_index)
    site.publish(LZ4)
    assert site.index() == {LZ4, MUNGE}


def test_who_never_comes_to_an_end_of_publishing_says_so(
    shared: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.publish(LZ4)
    monkeypatch.setattr(Files, "put_index", lambda *_: None)
    shared.build(MUNGE)
    with pytest.raises(TransferError, match="all the time"):
        Publisher(shared.local, shared.cache, "").publish([shared.lock.nodes[MUNGE]])


def test_an_index_without_a_package_that_is_gone(shared: Site) -> None:
    shared.publish(LZ4, MUNGE)
    root = Path(shared.url.removeprefix("file://"))
    (root / entry_path(shared.lock.nodes[MUNGE])).unlink()
    update_index(shared.cache, {}, shared.here)
    assert shared.index() == {LZ4}


def test_an_entry_that_is_damaged_there_is_in_no_index(shared: Site) -> None:
    shared.publish(LZ4, MUNGE)
    root = Path(shared.url.removeprefix("file://"))
    (root / entry_path(shared.lock.nodes[MUNGE])).write_text("{")
    shutil.rmtree(root / "v3/manifests/index")
    update_index(shared.cache, {}, shared.here)
    assert shared.index() == {LZ4}


# --- bad days -----------------------------------------------------------------------------------


def archive_of(site: Site, digest: str) -> Path:
    root = Path(site.url.removeprefix("file://"))
    entry = parse_entry(unsigned_payload((root / entry_path(site.lock.nodes[digest])).read_bytes()))
    return root / blob_path(entry.archive.checksum)


def flip(site: Site) -> None:
    archive = archive_of(site, LZ4)
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)


def grow(site: Site) -> None:
    archive = archive_of(site, LZ4)
    archive.write_bytes(archive.read_bytes() + b"x" * 10_000_000)


def lose(site: Site) -> None:
    archive_of(site, LZ4).unlink()


def say_nothing(site: Site) -> None:
    (Path(site.url.removeprefix("file://")) / entry_path(site.lock.nodes[LZ4])).write_text("[]")


def be_another(site: Site) -> None:
    lock = read_lock(json.dumps(LOCK | {"concrete_specs": _other_version()}))
    add_package(Path(site.url.removeprefix("file://")), lock, lock.nodes[LZ4])
    entry = Path(site.url.removeprefix("file://")) / entry_path(lock.nodes[LZ4])
    entry.rename(entry.parent / entry_path(site.lock.nodes[LZ4]).name)


def _other_version() -> dict[str, Any]:
    rows = {digest: {**row, "hash": digest} for digest, row in LOCK["concrete_specs"].items()}
    rows[LZ4]["version"] = "9.9.9"
    return rows


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (flip, "damaged"),
        (grow, "damaged"),
        (lose, "incomplete"),
        (say_nothing, "damaged"),
        (be_another, "of another build"),
    ],
)
def test_what_is_not_what_it_should_be_is_refused_and_kept_nowhere(
    shared: Site, spoil: Callable[[Site], None], why: str
) -> None:
    shared.publish(LZ4, MUNGE)
    spoil(shared)
    taken = shared.take(LZ4, MUNGE)
    assert (set(taken.payloads), taken.refused) == ({MUNGE}, {"lz4@1.10.0": why})
    assert not (shared.here / "shelf" / entry_path(shared.lock.nodes[LZ4])).exists()
    assert not (shared.here / "view" / entry_path(shared.lock.nodes[LZ4])).exists()


def test_a_signed_entry_that_was_changed_is_refused(
    shared: Site, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_user(signers[0], monkeypatch) as key:
        shared.publish(LZ4, key=key)
    root = Path(shared.url.removeprefix("file://"))
    place = root / entry_path(shared.lock.nodes[LZ4])
    signed, archive = place.read_bytes(), archive_of(shared, LZ4).name.encode()
    evil = parse_entry(add_package(root, shared.lock, shared.lock.nodes[LZ4], b"evil").read_bytes())
    place.write_bytes(signed.replace(archive, evil.archive.checksum.encode()))
    taken = shared.take(LZ4, keys=signers[0].keys)
    assert taken.refused == {"lz4@1.10.0": "not signed by a trusted key"}


def test_an_expired_key_does_not_count(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    store_servers.require("gpg", "gpg-agent")
    with signer("late", "--faked-system-time", "20200101T000000!") as someone:
        (node,) = shared.build(LZ4)
        text = shared.local / entry_path(node)
        signed = shared.here / "signed"
        gpg = ["gpg", "--homedir", str(someone.home), "--batch", "--quiet"]
        then = ["--faked-system-time", "20200101T000100!", "--output", str(signed)]
        subprocess.run([*gpg, *then, "--clearsign", str(text)], check=True)
        with Trust(someone.keys, unsigned=False) as trust, pytest.raises(ValueError, match="trust"):
            trust.payload(signed.read_bytes())


def test_copies_are_used_again_and_fetched_again_when_damaged(shared: Site) -> None:
    shared.publish(LZ4)
    shared.take(LZ4)
    place = Path(shared.url.removeprefix("file://"))
    place.rename(place.with_name("away"))
    assert set(shared.take(LZ4).payloads) == {LZ4}
    for blob in (shared.here / "shelf/blobs").rglob("*/*"):
        if blob.is_file():
            blob.chmod(0o644)
            blob.write_bytes(b"damaged")
    gone = shared.take(LZ4)
    assert (gone.payloads, gone.failure) == ({}, "there is no such directory")
    place.with_name("away").rename(place)
    assert set(shared.take(LZ4).payloads) == {LZ4}


def test_a_server_that_is_gone_is_asked_once_and_then_no_more(tmp_path: Path, lock: Lock) -> None:
    port = store_servers.free_port()
    for url in (f"https://127.0.0.1:{port}", f"oci://127.0.0.1:{port}/x", "file:///nowhere/at/all"):
        site = Site(url, lock, tmp_path)
        taken = site.take(LZ4, MUNGE, SLURM)
        assert taken.payloads == {}
        assert taken.failure


class _Server(http.server.SimpleHTTPRequestHandler):
    """Ends in the middle of an archive, for ever."""

    requests = 0

    def log_message(self, *_: Any) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        if content.startswith(b"\x1f\x8b"):
            outputfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            outputfile.write(content)


@contextmanager
def web_server(root: Path, handler: type[http.server.SimpleHTTPRequestHandler]) -> Iterator[str]:
    serve = functools.partial(handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_a_directory_behind_a_web_server_is_read_like_any_other(shared: Site) -> None:
    shared.publish(LZ4)
    with web_server(Path(shared.url.removeprefix("file://")), _Quiet) as url:
        there = dataclasses.replace(shared, url=url)
        assert set(there.take(LZ4, MUNGE).payloads) == {LZ4}
        assert there.index() == {LZ4}
        with pytest.raises(TransferError):
            there.publish(MUNGE)


def test_a_server_that_breaks_off_gives_nothing(
    shared: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm_factory.fetch.http.FIRST_PAUSE", 0.01)
    shared.publish(LZ4)
    with web_server(Path(shared.url.removeprefix("file://")), _Server) as url:
        taken = dataclasses.replace(shared, url=url).take(LZ4)
    assert (taken.payloads, taken.failure) == ({}, "the connection was lost")


def test_a_registry_that_wants_a_password_gets_it_from_dockers_configuration(
    tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "$2b$05$abcdefghijklmnopqrstuuSi5t5MU9ATKRSnauHSt0KxSk7lEk8iC"
    with store_servers.registry(tmp_path / "registry", password_file=f"me:{password}\n") as server:
        site = Site(f"oci://{server.host}/team/cache", lock, tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(TransferError, match="401 Unauthorized"):
            site.publish(LZ4)
        taken = site.take(LZ4)
        assert "401 Unauthorized" in taken.failure
        (tmp_path / ".docker").mkdir()
        config = tmp_path / ".docker/config.json"
        auth = base64.b64encode(b"me:se cret").decode()
        config.write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
        site.publish(LZ4)
        assert set(site.take(LZ4).payloads) == {LZ4}
        config.write_text("{")
        broken = site.take(MUNGE)
        assert "config.json cannot be used" in broken.failure


def _entry(part: Part) -> bytes:
    return json.dumps({"version": 3, "data": [part.record()]}).encode()


# --- what is no failure of a store ---------------------------------------------------------------


def test_keys_that_are_none_are_a_matter_of_the_settings(tmp_path: Path) -> None:
    store_servers.require("gpg")
    nothing = tmp_path / "keys.asc"
    for content in (None, b"", b"no key"):
        if content is not None:
            nothing.write_bytes(content)
        with (
            pytest.raises(ConfigurationError, match="cannot be used"),
            Trust(nothing, unsigned=False),
        ):
            pass


def test_a_key_that_nobody_has_signs_nothing(shared: Site, tmp_path: Path) -> None:
    store_servers.require("gpg")
    with pytest.raises(ConfigurationError, match="Nothing can be signed"):
        shared.publish(LZ4, key="nobody@nowhere.example")
    assert not list(Path(shared.url.removeprefix("file://")).rglob("*.manifest.json"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "JSON"),
        (b"[]", "no entry"),
        (b'{"version": 3, "data": []}', "no entry"),
        (b'{"version": 2, "data": []}', "another layout"),
        (_entry(Part("../../etc", 1, "x")), "not a checksum"),
        (_entry(Part("a" * 64, -1, "x")), "impossible part"),
    ],
)
def test_an_impossible_entry_is_none(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_entry(text)


def test_a_description_has_the_rows_of_the_lock(lock: Lock) -> None:
    rows = [dict(row) for row in description(lock, lock.nodes[SLURM])]
    assert describes(rows, lock.nodes[SLURM], lock.rows)
    assert not describes(rows, lock.nodes[LZ4], lock.rows)
    assert not describes([*rows, {"hash": "a" * 32}], lock.nodes[SLURM], lock.rows)


def test_the_order_of_flags_does_not_count_but_the_flags_do(lock: Lock) -> None:
    row = {**lock.nodes[LZ4].row, "parameters": {"cflags": ["-O2", "-g"], "shared": True}}
    for flags, same in ((["-g", "-O2"], True), (["-g"], False), (["-g", "-O2", "-O2"], False)):
        known = {LZ4: {**row, "parameters": {"cflags": flags, "shared": True}}} | {
            CMAKE: lock.nodes[CMAKE].row
        }
        assert describes([row], lock.nodes[LZ4], known) is same
