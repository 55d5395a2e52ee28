"""A registry with tokens, as Docker's protocol has them. What works is tested with the stores."""

import base64
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from slurm_factory.fetch import registry
from slurm_factory.fetch.http import (
    DeniedError,
    LoginFileError,
    MissingError,
    NoSuchPartError,
    TransferError,
    TransientError,
)
from slurm_factory.fetch.registry import LARGEST_DOCUMENT, Repository

CONTENT = bytes(range(256)) * 4000
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()
READ, WRITE = "repository:a/b:pull", "repository:a/b:pull,push"


class Handler(BaseHTTPRequestHandler):
    """Checks tokens, which are their scopes with a number."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def challenge(self, scope: str) -> None:
        place = self.server.realm or self.server.url
        realm = f'Bearer realm="{place}/token",service="x",scope="{scope}"'
        told = json.dumps({"errors": [{"message": "access \x1b[31mdenied"}]}).encode()
        if self.server.mute and "Authorization" in self.headers:
            self.answer(403, told)
        else:
            self.answer(401, told, WWW_Authenticate=realm)

    def handle_all(self) -> None:
        server, parts = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.requests.append(f"{self.command} {parts.path}")
        server.logins.append(self.headers.get("Authorization", ""))
        if parts.path == "/token":
            server.tokens += 1
            scope = parse_qs(parts.query)["scope"][0]
            token = f"{scope}#{server.tokens}"
            told = json.dumps({"token": token, "x": server.padding}).encode()
            self.answer(*((200, told) if server.open else (401,)))
            return
        if parts.path == "/v2/":
            self.challenge("")
            return
        scope = READ if self.command in {"GET", "HEAD"} else WRITE
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token.startswith(f"{scope}#") or token in server.expired:
            self.challenge(scope)
            return
        if self.command == "PUT" and server.expire_once:
            server.expire_once = False
            server.expired.add(token)
            self.challenge(scope)
            return
        self.serve(parts.path.removeprefix("/v2/a/b/"), body)

    def serve(self, path: str, body: bytes) -> None:
        if self.command == "POST":
            self.answer(202, Location=f"{self.server.elsewhere}/v2/a/b/blobs/uploads/1?x=y")
        elif self.command == "PUT":
            self.server.received = body
            self.answer(201)
        elif path == "tags/list" and self.server.pages:
            # Two names, and the next page.
            following = self.server.pages.pop(0)
            link = f'</v2/a/b/tags/list?last={following}>; rel="next"'
            self.answer(200, b'{"tags": ["x", "y"]}', Link=link)
        elif path in self.server.answers:
            self.answer(*self.server.answers[path])
        else:
            self.answer(404, b'{"errors": [{"message": "unknown"}]}')

    do_GET = handle_all  # noqa: N815  # http.server's names
    do_HEAD = do_PUT = do_POST = handle_all  # noqa: N815


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.tokens = 0
        self.expired: set[str] = set()
        self.expire_once = self.mute = False
        self.open = True
        self.received = b""
        self.elsewhere = self.realm = self.padding = ""
        self.logins: list[str] = []
        self.pages: list[str] = []


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def repository(server: Server) -> Repository:
    return Repository(f"oci://127.0.0.1:{server.server_port}/A/b", 20)


@pytest.fixture(params=[False, True], ids=["tells", "mute"])
def mute(request: pytest.FixtureRequest, server: Server) -> bool:
    """Whether it does not tell which token it wants in place of another."""
    server.mute = request.param
    return server.mute


@pytest.mark.usefixtures("mute")
def test_token_for_reading_is_replaced_to_write(
    server: Server, repository: Repository, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    repository.upload(CHECKSUM, file)
    assert server.received == CONTENT
    assert server.tokens == 2


def test_whole_file_is_sent_again_after_its_token_has_expired(
    server: Server, repository: Repository, tmp_path: Path
) -> None:
    server.expire_once = True
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    repository.upload(CHECKSUM, file)
    assert server.received == CONTENT
    assert server.requests[-1] == "PUT /v2/a/b/blobs/uploads/1"


def test_token_is_asked_for_once(server: Server, repository: Repository) -> None:
    server.answers["manifests/x"] = (200, b"{}")
    for _ in range(3):
        assert repository.manifest("x") == {}
    assert server.tokens == 1


def test_nobody_gets_a_token(server: Server, repository: Repository) -> None:
    server.open = False
    with pytest.raises(DeniedError) as error:
        repository.manifest("x")
    assert "HTTP 401 Unauthorized (access " in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"a":' + b" " * LARGEST_DOCUMENT])
def test_manifest_that_is_none(server: Server, repository: Repository, content: bytes) -> None:
    server.answers["manifests/x"] = (200, content)
    with pytest.raises(TransferError, match=r"the manifest of x is (damaged|too large)"):
        repository.manifest("x")


def test_what_is_not_there(server: Server, repository: Repository) -> None:
    assert repository.tags() == []
    with pytest.raises(MissingError, match="no tag x"):
        repository.manifest("x")
    with pytest.raises(MissingError, match="no blob"), repository.open(CHECKSUM):
        pass
    server.answers[f"blobs/sha256:{CHECKSUM}"] = (416, b"")
    with pytest.raises(NoSuchPartError), repository.open(CHECKSUM, 5):
        pass


def test_server_that_has_a_bad_day(server: Server, repository: Repository) -> None:
    server.answers["manifests/x"] = (503, b"")
    with pytest.raises(TransientError, match="HTTP 503"):
        repository.manifest("x")
    assert server.requests.count("GET /v2/a/b/manifests/x") == 2, "with and without its token"


def test_file_of_docker_that_is_broken(repository: Repository) -> None:
    file = Path.home() / ".docker/config.json"
    file.parent.mkdir(exist_ok=True)
    for content in ("{", "[]", '{"auths": 1}'):
        file.write_text(content)
        with pytest.raises(LoginFileError, match=r"\.docker/config\.json"):
            repository.manifest("x")


def log_in(host: str) -> None:
    file = Path.home() / ".docker/config.json"
    file.parent.mkdir(exist_ok=True)
    auth = base64.b64encode(b"user:secret").decode()
    file.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


class Sink(BaseHTTPRequestHandler):
    """Takes everything from everybody."""

    server: "Server"

    def do_PUT(self) -> None:  # http.server's name
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.logins.append(self.headers.get("Authorization", ""))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_upload_elsewhere_tells_no_login(
    server: Server, repository: Repository, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    with Server() as other:
        other.RequestHandlerClass = Sink
        thread = threading.Thread(target=other.serve_forever, daemon=True)
        thread.start()
        server.elsewhere = other.url
        repository.upload(CHECKSUM, file)
        other.shutdown()
        thread.join()
    assert other.logins == [""]
    assert any(server.logins), "the registry itself got its token"


@pytest.mark.parametrize("location", ["http://example.invalid/x", "http://[", "HTTP://127.0.0.1/x"])
def test_upload_without_tls_is_refused(
    location: str, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "_scheme", "https")
    asked = []

    def ask(method: str, path: str, *_: object) -> requests.Response:
        asked.append(method)
        answer = requests.Response()
        answer.url, answer.status_code = "https://example.invalid/v2/", 202
        answer.headers["Location"] = location
        answer.raw = io.BytesIO()
        if method == "HEAD":
            raise MissingError(path)
        return answer

    monkeypatch.setattr(repository, "_ask", ask)
    with pytest.raises(TransferError, match=r"without TLS|does not tell where"):
        repository.upload(CHECKSUM, CONTENT)
    assert asked == ["HEAD", "POST"]


@pytest.mark.parametrize("realm", ["http://example.invalid", "http://192.0.2.1:1"])
def test_password_goes_to_no_token_server_without_tls(
    realm: str, server: Server, repository: Repository
) -> None:
    log_in(f"127.0.0.1:{server.server_port}")
    server.realm = realm
    with pytest.raises(DeniedError, match="password without TLS"):
        repository.manifest("x")


def test_password_goes_to_the_token_server_of_this_machine(
    server: Server, repository: Repository
) -> None:
    log_in(f"127.0.0.1:{server.server_port}")
    server.answers["manifests/x"] = (200, b"{}")
    assert repository.manifest("x") == {}
    assert [each for each in server.logins if each.startswith("Basic")] == [
        f"Basic {base64.b64encode(b'user:secret').decode()}"
    ]


@pytest.mark.parametrize("pages", [["y"] * 9, [str(number) for number in range(9)]])
def test_list_of_tags_without_an_end(
    pages: list[str], server: Server, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_PAGES", 4)
    server.pages = [*pages]
    with pytest.raises(TransferError, match="no end"):
        repository.tags()
    assert len(server.pages) in {7, 5}


def test_list_of_too_many_tags(
    server: Server, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_TAGS", 3)
    server.pages = [str(number) for number in range(9)]
    with pytest.raises(TransferError, match="no end"):
        repository.tags()


def test_token_that_is_too_large(
    server: Server, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "LARGEST_DOCUMENT", 10_000)
    server.padding = "x" * 20_000
    with pytest.raises(TransferError, match="too large"):
        repository.manifest("x")


def test_error_that_is_too_large(
    server: Server, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "LARGEST_DOCUMENT", 10_000)
    told = json.dumps({"errors": [{"message": "much"}], "x": "x" * 20_000})
    server.answers["manifests/x"] = (400, told.encode())
    with pytest.raises(TransferError) as error:
        repository.manifest("x")
    assert str(error.value) == "HTTP 400 Bad Request"
