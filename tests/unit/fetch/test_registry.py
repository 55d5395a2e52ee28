"""A registry with tokens, as Docker's protocol has them. What works is tested with the stores."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

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
        realm = f'Bearer realm="{self.server.url}/token",service="x",scope="{scope}"'
        told = json.dumps({"errors": [{"message": "access \x1b[31mdenied"}]}).encode()
        if self.server.mute and "Authorization" in self.headers:
            self.answer(403, told)
        else:
            self.answer(401, told, WWW_Authenticate=realm)

    def handle_all(self) -> None:
        server, parts = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.requests.append(f"{self.command} {parts.path}")
        if parts.path == "/token":
            server.tokens += 1
            scope = parse_qs(parts.query)["scope"][0]
            token = f"{scope}#{server.tokens}"
            self.answer(*((200, json.dumps({"token": token}).encode()) if server.open else (401,)))
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
            self.answer(202, Location="/v2/a/b/blobs/uploads/1?x=y")
        elif self.command == "PUT":
            self.server.received = body
            self.answer(201)
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
