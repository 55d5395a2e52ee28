import errno
import hashlib
import os
import random
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from slurm_factory.exceptions import DownloadError, OutputError, SlurmFactoryError
from slurm_factory.fetch import http as transfer
from slurm_factory.fetch.sources import Source, archive_extension, cached, fetch

CONTENT = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = 150_000

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next step of the server's script, the last one for ever."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        script = self.server.script
        (script.pop(0) if len(script) > 1 else script[0])(self)

    def send_head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = [whole]
        self.requests: list[tuple[str, str | None]] = []
        self.scheme = "http"
        self.stop_stalling = threading.Event()

    def handle_error(self, *args: object) -> None:
        """A client that hangs up is what some tests are about."""

    def url(self, name: str = "a.tar.gz") -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/{name}"


def whole(handler: Handler) -> None:
    handler.send_head(200, Content_Length=len(CONTENT))
    handler.wfile.write(CONTENT)


def ranged(handler: Handler) -> None:
    start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
    if start >= len(CONTENT):
        handler.send_head(416, Content_Range=f"bytes */{len(CONTENT)}", Content_Length=0)
        return
    span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    handler.send_head(206, Content_Range=span, Content_Length=len(CONTENT) - start)
    handler.wfile.write(CONTENT[start:])


def truncated(handler: Handler) -> None:
    handler.send_head(200, Content_Length=len(CONTENT))
    handler.wfile.write(CONTENT[:HALF])
    handler.close_connection = True


def ended_early_without_length(handler: Handler) -> None:
    handler.send_head(200, Connection="close")
    handler.wfile.write(CONTENT[:HALF])
    handler.close_connection = True


def reset(handler: Handler) -> None:
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.send_head(200, Content_Length=len(CONTENT))
    handler.wfile.write(CONTENT[:HALF])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RD)
    handler.close_connection = True


def stalled(handler: Handler) -> None:
    handler.send_head(200, Content_Length=len(CONTENT))
    handler.wfile.write(CONTENT[:HALF])
    handler.wfile.flush()
    handler.server.stop_stalling.wait(10)
    handler.close_connection = True


def endless(handler: Handler) -> None:
    handler.send_head(200, Connection="close")
    while True:
        handler.wfile.write(CONTENT)


def wrong_bytes(handler: Handler) -> None:
    handler.send_head(200, Content_Length=len(CONTENT))
    handler.wfile.write(CONTENT[::-1])


def compressing(handler: Handler) -> None:
    if handler.headers["Accept-Encoding"] != "identity":
        status(406)(handler)
        return
    handler.send_head(200, Content_Length=len(CONTENT), Content_Encoding="gzip")
    handler.wfile.write(CONTENT)


def status(code: int) -> Answer:
    return lambda handler: handler.send_head(code, Content_Length=0)


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.stop_stalling.set()
        running.shutdown()
        thread.join()


def source(*urls: str, size: int | None = len(CONTENT)) -> Source:
    return Source("Slurm 24.11.5", SHA256, size, urls, ".tar.gz")


def part_of(cache: Path) -> Path:
    (cache / ".partial").mkdir(parents=True, exist_ok=True)
    return cache / ".partial" / f"{SHA256}.part"


def test_file_lands_where_spack_looks_for_it(server: Server, tmp_path: Path) -> None:
    path = fetch(source(server.url()), tmp_path)
    assert path == tmp_path / "_source-cache/archive" / SHA256[:2] / f"{SHA256}.tar.gz"
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.glob("**/*.part")) == []


@pytest.mark.parametrize(
    ("url", "extension"),
    [
        ("https://h/archive/refs/tags/slurm-24-11-5-1.tar.gz", ".tar.gz"),
        ("https://h/slurm-wlm_24.11.5.orig.tar.gz?x=1", ".tar.gz"),
        ("https://h/x.tgz", ".tgz"),
        ("https://h/x.tar.xz", ".tar.xz"),
        ("https://h/nvidia_nvml_dev_cu12-12.9-py3-none-manylinux1_x86_64.whl", ""),
        ("https://h/tarball/main", ""),
    ],
)
def test_extension_is_the_one_under_which_spack_stores(url: str, extension: str) -> None:
    assert archive_extension(url) == extension


def test_cached_file_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    first = fetch(source(server.url()), tmp_path)
    assert fetch(source(server.url()), tmp_path) == first
    assert cached(source(), tmp_path) == first
    assert len(server.requests) == 1


def test_damaged_cached_file_is_replaced_with_a_warning(server: Server, tmp_path: Path) -> None:
    path = tmp_path / source().stored_as
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    warnings: list[str] = []
    assert cached(source(), tmp_path) is None
    fetch(source(server.url()), tmp_path, warn=warnings.append)
    assert path.read_bytes() == CONTENT
    assert str(path) in warnings[0]


@pytest.mark.parametrize("fault", [truncated, ended_early_without_length, reset, stalled])
def test_broken_transfer_is_continued_not_begun_again(
    server: Server, tmp_path: Path, fault: Answer
) -> None:
    server.script = [fault, ranged]
    assert fetch(source(server.url()), tmp_path, timeout=1).read_bytes() == CONTENT
    # A machine that is busy may need more requests of the second kind.
    first, second, *_ = server.requests
    assert first[1] is None
    assert second[1] is not None
    assert 0 < int(second[1].removeprefix("bytes=").rstrip("-")) <= HALF


def test_truncated_download_never_appears_under_its_final_name(
    server: Server, tmp_path: Path
) -> None:
    server.script = [ended_early_without_length]
    with pytest.raises(DownloadError, match=f"ended after {HALF} of {len(CONTENT)} bytes"):
        fetch(source(server.url()), tmp_path)
    assert not (tmp_path / source().stored_as).exists()
    server.script = [truncated]
    with pytest.raises(DownloadError, match="the connection was lost"):
        fetch(source(server.url(), size=None), tmp_path)
    assert not (tmp_path / source().stored_as).exists()


def test_download_is_continued_by_a_later_run_from_another_url(
    server: Server, tmp_path: Path
) -> None:
    server.script = [truncated, status(404)]
    with pytest.raises(DownloadError):
        fetch(source(server.url("one.tar.gz")), tmp_path)
    server.script = [ranged]
    fetch(source(server.url("two.tar.gz")), tmp_path)
    assert server.requests[-1] == ("/two.tar.gz", f"bytes={HALF}-")


def test_server_that_ignores_ranges_sends_the_file_again(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).write_bytes(CONTENT[:HALF])
    server.script = [whole]
    assert fetch(source(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/a.tar.gz", f"bytes={HALF}-")]


@pytest.mark.parametrize("old", [b"<html>log in</html>", CONTENT + b"more", CONTENT[::-1]])
def test_partial_file_of_something_else_does_not_spoil_the_download(
    server: Server, tmp_path: Path, old: bytes
) -> None:
    part_of(tmp_path).write_bytes(old)
    server.script = [ranged]
    assert fetch(source(server.url()), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_passing_trouble_of_the_server_is_survived(
    server: Server, tmp_path: Path, code: int
) -> None:
    server.script = [status(code), status(code), whole]
    fetch(source(server.url()), tmp_path)
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_final_answers_are_not_asked_for_again(server: Server, tmp_path: Path, code: int) -> None:
    server.script = [status(code)]
    with pytest.raises(DownloadError, match=f"HTTP {code}"):
        fetch(source(server.url()), tmp_path)
    assert len(server.requests) == 1


def test_a_server_in_lasting_trouble_is_given_up(server: Server, tmp_path: Path) -> None:
    server.script = [status(503)]
    with pytest.raises(DownloadError, match="HTTP 503 Service Unavailable"):
        fetch(source(server.url()), tmp_path)
    assert len(server.requests) == transfer.ATTEMPTS


def test_wrong_checksum_is_refused_and_the_next_url_tried(server: Server, tmp_path: Path) -> None:
    server.script = [wrong_bytes, whole]
    warnings: list[str] = []
    urls = (server.url("bad.tar.gz"), server.url("good.tar.gz"))
    assert fetch(source(*urls), tmp_path, warn=warnings.append).read_bytes() == CONTENT
    assert len(warnings) == 1
    assert "bad.tar.gz" in warnings[0]


def test_wrong_checksum_names_both_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.script = [wrong_bytes]
    got = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(DownloadError, match="not the expected file") as caught:
        fetch(source(server.url()), tmp_path)
    assert f"{got} instead of {SHA256}" in caught.value.details
    assert caught.value.exit_code == 4
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_file_of_another_length_is_refused_before_it_is_downloaded(
    server: Server, tmp_path: Path
) -> None:
    seen: list[int] = []
    wanted = source(server.url(), size=len(CONTENT) - 1)
    with pytest.raises(DownloadError, match="300000 bytes instead of 299999"):
        fetch(wanted, tmp_path, report=lambda received, _: seen.append(received))
    assert seen == []


def test_endless_answer_does_not_fill_the_disk(server: Server, tmp_path: Path) -> None:
    server.script = [endless]
    with pytest.raises(DownloadError, match="more than 300000 bytes"):
        fetch(source(server.url()), tmp_path)
    assert not part_of(tmp_path).exists()


def test_archive_labelled_as_compressed_is_not_unpacked_nor_packed_again(
    server: Server, tmp_path: Path
) -> None:
    server.script = [compressing]
    assert fetch(source(server.url()), tmp_path).read_bytes() == CONTENT


def test_every_url_is_listed_with_its_reason_and_what_to_do(server: Server, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        server.script = [status(404)]
        urls = (server.url(), f"{dead}/x.tar.gz", f"{dead}/y.tar.gz", "http://[bad/z.tar.gz")
        with pytest.raises(DownloadError) as caught:
            fetch(source(*urls[:3]), tmp_path)
    error = caught.value
    assert f"{urls[0]}: HTTP 404 Not Found" in error.details
    assert f"{urls[1]}: no connection: connection refused" in error.details
    assert urls[2] not in error.details, "a host that cannot be reached is asked once"
    assert "\n" not in error.details + error.resolution
    assert str(tmp_path / source().stored_as) in error.resolution
    assert SHA256 in error.resolution
    assert "SLURM_FACTORY_SOURCE_MIRRORS" in error.resolution


@pytest.mark.parametrize(
    "url",
    [
        *("gopher://host/x.tar.gz", "http://", "file:///nowhere/x.tar.gz"),
        *("http://mirror..example/x.tar.gz", f"http://{'a' * 64}.example/x.tar.gz"),
    ],
)
def test_url_that_makes_no_sense_is_one_clear_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError):
        fetch(source(url), tmp_path)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (requests.exceptions.ConnectTimeout(), transfer.UnreachableError, "within 10 s"),
        (requests.exceptions.ReadTimeout(), transfer.TransientError, "no answer within 5 s"),
        (requests.exceptions.ProxyError("no"), transfer.UnreachableError, "proxy"),
        (requests.exceptions.TooManyRedirects("Loop"), transfer.TransferError, "loop"),
    ],
)
def test_a_host_that_does_not_answer_costs_one_connect_timeout(
    error: requests.exceptions.RequestException, kind: type[Exception], reason: str
) -> None:
    failure = transfer.classified(error, (10, 5))
    assert type(failure) is kind
    assert reason in str(failure)


def test_unknown_host_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no connection: "):
        fetch(source("http://slurm.invalid/x.tar.gz"), tmp_path)


def test_mirrors_come_first_and_are_asked_for_file_name_and_spack_path(
    server: Server, tmp_path: Path
) -> None:
    server.script = [status(404), status(404), whole]
    wanted = source(server.url("up/slurm-24-11-5-1.tar.gz"))
    fetch(wanted, tmp_path, mirrors=(server.url("own/"),))
    assert [path for path, _ in server.requests] == [
        "/own/slurm-24-11-5-1.tar.gz",
        f"/own/{wanted.stored_as}",
        "/up/slurm-24-11-5-1.tar.gz",
    ]


def test_directory_works_as_a_mirror_and_no_server_is_asked(server: Server, tmp_path: Path) -> None:
    mirror = tmp_path / "a mirror"
    mirror.mkdir()
    (mirror / "a.tar.gz").write_bytes(CONTENT)
    wanted = source(server.url())
    path = fetch(wanted, tmp_path / "cache", mirrors=(mirror.as_uri(),))
    assert path.read_bytes() == CONTENT
    assert server.requests == []


def test_progress_ends_with_the_whole_size(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    report = lambda received, total: seen.append((received, total))  # noqa: E731
    fetch(source(server.url(), size=None), tmp_path, report=report)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_builds_at_the_same_time_download_once(server: Server, tmp_path: Path) -> None:
    wanted = source(server.url())
    threads = [threading.Thread(target=fetch, args=(wanted, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert cached(wanted, tmp_path)


def test_full_disk_is_an_output_error(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left") as caught:
        fetch(source(server.url()), tmp_path)
    assert caught.value.exit_code == 7
    assert os.strerror(errno.ENOSPC) in caught.value.details
    assert "SLURM_FACTORY_CACHE_DIR" in caught.value.resolution
    assert len(server.requests) == 1


def test_full_disk_while_copying_a_local_file_is_not_blamed_on_that_file(tmp_path: Path) -> None:
    local = tmp_path / "a.tar.gz"
    local.write_bytes(CONTENT)
    part_of(tmp_path).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left"):
        fetch(source(local.as_uri()), tmp_path)


def test_unusable_cache_directory_is_an_output_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be used"):
        fetch(source(server.url()), tmp_path / "file" / "cache")


def test_read_only_cache_that_has_the_file_serves_it(server: Server, tmp_path: Path) -> None:
    path = tmp_path / source().stored_as
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    fetch(source(server.url()), tmp_path)
    assert not (tmp_path / ".partial").exists()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "site-ca.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        " -subj /CN=site -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out site-ca.pem",
        shell=True,
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    return path


@pytest.fixture
def tls_server(server: Server, certificate: Path) -> Iterator[Server]:
    transfer._system_trust.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.scheme = "https"
    yield server
    transfer._system_trust.cache_clear()


def test_ca_of_the_systems_store_is_trusted_without_settings_for_requests(
    tls_server: Server, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(transfer, "SYSTEM_CA_BUNDLES", (str(certificate), "/nowhere.crt"))
    assert fetch(source(tls_server.url()), tmp_path).read_bytes() == CONTENT


def test_ca_bundle_of_the_environment_is_trusted(
    tls_server: Server, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert fetch(source(tls_server.url()), tmp_path).read_bytes() == CONTENT


def test_untrusted_certificate_is_refused_at_once_and_says_what_to_do(
    tls_server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="update-ca-certificates"):
        fetch(source(tls_server.url()), tmp_path)
    assert tls_server.requests == []


def test_no_failure_of_a_download_is_anything_but_an_error_for_the_user(
    server: Server, tmp_path: Path
) -> None:
    for fault in (truncated, reset, wrong_bytes, status(416), status(302)):
        server.script = [fault]
        with pytest.raises(SlurmFactoryError):
            fetch(source(server.url()), tmp_path)
