import re
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from store_samples import STEM, build, content_of, get, send, site, stems

from slurm_factory.exceptions import ConfigurationError, DownloadError
from slurm_factory.fetch import http
from slurm_factory.stores import places
from slurm_factory.stores.places import open_to_publish

Fault = Callable[["Handler", Path], bool]
"""Answers in another way than a server of files; returns whether it has."""


class Handler(SimpleHTTPRequestHandler):
    """Gives files away, also from an offset."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        self.server.requests.append((path.name, self.headers.get("Range", "")))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault and fault(self, path):
            return
        if not path.is_file():
            self.send_error(404)
            return
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        content, start = path.read_bytes(), int(begin[1]) if begin else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if begin:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(
            ("127.0.0.1", 0), lambda *given, **named: Handler(*given, **named, directory=str(root))
        )
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.ended = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of a store with a package."""
    here = site(tmp_path, "publisher")
    send(here, f"file://{tmp_path}/store", build(here, files={"lib/x": 1000}))
    with Server(tmp_path / "store") as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.ended.set()
        found.shutdown()
        thread.join()


def none(_: Handler, __: Path) -> bool:
    return False


def status(code: int, **headers: str) -> Fault:
    def answer(handler: Handler, _: Path) -> bool:
        handler.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        return True

    return answer


def broken_off(handler: Handler, path: Path) -> bool:
    content = path.read_bytes()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:100])
    handler.close_connection = True
    return True


def silent(handler: Handler, _: Path) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.server.ended.wait(20)
    return True


def trickling(handler: Handler, path: Path) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.ended.wait(0.02):
        handler.wfile.write(b" ")
        handler.wfile.flush()
    return True


def endless(handler: Handler, _: Path) -> bool:
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.ended.is_set():
        handler.wfile.write(b" " * (1 << 20))
    return True


def test_package_arrives_from_a_web_server(server: Server, tmp_path: Path) -> None:
    there = site(tmp_path)
    fetched = get(there, f"{server.url}/", "25.05", arch="x86_64")
    built = tmp_path / "publisher/builds/25.05"
    assert content_of(fetched.manifest_path.parent) == content_of(built)
    server.requests.clear()
    assert get(there, server.url).up_to_date
    assert server.requests == [("index.json", "")]
    assert stems(there, server.url) == [STEM]


def test_broken_transfer_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.faults = [none, broken_off]
    assert not get(site(tmp_path), server.url).up_to_date
    ranges = [asked for _, asked in server.requests]
    assert ranges[:3] == ["", "", "bytes=100-"]


@pytest.mark.parametrize(
    ("fault", "reason", "way"),
    [
        (status(401), "HTTP 401", "~/.netrc"),
        (status(403), "HTTP 403", "~/.netrc"),
        (status(404), "HTTP 404", "Check the URL"),
        (status(500), "HTTP 500", "Run the command again"),
        (status(503), "HTTP 503", "Run the command again"),
        (status(302, Location="/index.json"), "redirects more than 5 times", "again"),
        (status(302, Location="file:///etc/passwd"), "", "again"),
        (endless, "more than", "again"),
    ],
)
def test_failure_of_the_server_is_one_clear_error(
    server: Server, tmp_path: Path, fault: Fault, reason: str, way: str
) -> None:
    server.faults = [fault] * 20
    with pytest.raises(DownloadError) as error:
        get(site(tmp_path), server.url)
    assert error.value.exit_code == 4
    assert reason in error.value.details
    assert way in error.value.resolution
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize("fault", [broken_off, status(500), status(403)])
def test_package_of_which_a_file_does_not_come_does_not_appear(
    server: Server, tmp_path: Path, fault: Fault
) -> None:
    there = site(tmp_path, "reader")
    build(there, "25.05.7")
    before = content_of(there.builds_dir / "25.05")
    # The index comes, and no transfer gets further than the first one.
    server.faults = [none, none, fault, *[status(500)] * 20]
    with pytest.raises(DownloadError, match=r"could not be fetched from"):
        get(there, server.url)
    assert content_of(there.builds_dir / "25.05") == before
    assert [*there.work_dir.iterdir()] == []


def test_server_that_says_nothing_more_does_not_hold_anybody_up(
    server: Server, tmp_path: Path
) -> None:
    impatient = site(tmp_path).model_copy(update={"download_timeout": 0.2})
    server.faults = [silent] * 20
    with pytest.raises(DownloadError) as error:
        get(impatient, server.url)
    assert "no more bytes came" in error.value.details.lower()


def test_server_that_sends_a_byte_now_and_then_does_not_hold_anybody_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.1)
    server.faults = [trickling] * 20
    with pytest.raises(DownloadError) as error:
        get(site(tmp_path), server.url)
    assert "less than 1000 bytes a second" in error.value.details


def test_server_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as error:
        get(site(tmp_path), "http://user:secret@127.0.0.1:9")
    assert "No connection" in error.value.details
    assert "secret" not in str(error.value)


def test_nothing_can_be_published_to_a_web_server(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Nothing can be published to https://host/x"):
        open_to_publish("https://me:secret@host/x", site(tmp_path))


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "ftp://host/x", "file://relative", "http://", "s3://", "s3:///x", "oci://host"),
        *("oci://user:secret@host/x", "s3://key:secret@bucket/x", "oci://host/UPPER", "s3://B_c/x"),
        *("https://host/a b", "oci://host/x:tag", "s3://bucket/x?y"),
    ],
)
def test_what_is_no_url_of_a_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        places.open_store(url, site(tmp_path))
    assert "secret" not in str(error.value)
