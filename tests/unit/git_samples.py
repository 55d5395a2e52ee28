"""Git repositories for tests, and a server that gives them away over HTTP."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from dulwich import porcelain
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend
from dulwich.web import make_wsgi_chain

AUTHOR = b"A Tester <tester@example.org>"
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def make_repository(directory: Path, files: dict[str, str]) -> Repo:
    """A repository whose first commit is tagged v1.0, and whose second v1.1.0."""
    repository = porcelain.init(str(directory))
    write_files(directory, {"OLD": "gone in the second commit\n"})
    commit(repository, "one")
    porcelain.tag_create(repository, "v1.0")
    (directory / "OLD").unlink()
    write_files(directory, files)
    (directory / "link").symlink_to("README")
    program = directory / "bin/spack"
    if program.exists():
        program.chmod(0o755)
    commit(repository, "two")
    porcelain.tag_create(
        repository, "v1.1.0", author=AUTHOR, message=b"annotated", annotated=True, sign=False
    )
    porcelain.branch_create(repository, "develop")
    return repository


def commit(repository: Repo, message: str) -> str:
    porcelain.add(repository)
    made = porcelain.commit(
        repository, message=message.encode(), author=AUTHOR, committer=AUTHOR, sign=False
    )
    return bytes(made).decode()


def write_files(directory: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@dataclass
class GitServer:
    """What a server was asked, and what it shall do instead of its work, one entry a request.

    Attributes:
        url: Of the repository.
        requests: Method, path and authorization of each request.
        script: Stand-ins; the repository itself answers where there is none.
    """

    url: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    script: list[Application | None] = field(default_factory=list)


@contextmanager
def served(repository: Repo) -> Iterator[GitServer]:
    """A smart HTTP server on the loopback device with one repository, /spack.git."""
    repositories: dict[str, BackendRepo] = {"/spack.git": repository}
    answer = make_wsgi_chain(DictBackend(repositories))
    state = GitServer()

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
        state.requests.append((*asked, environ.get("HTTP_AUTHORIZATION", "")))
        chosen = state.script.pop(0) if state.script else None
        return (chosen or answer)(environ, start_response)

    with make_server("127.0.0.1", 0, application, handler_class=_Quiet) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/spack.git"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def status(line: str) -> Application:
    """Answers with a status, such as `503 Service Unavailable`, and no content."""

    def application(_: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(line, [("Content-Length", "0")])
        return []

    return application


def page(content: bytes, kind: str = "text/html", length: int | None = None) -> Application:
    """Answers with content, of which it may promise more than there is."""

    def application(_: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        headers = [("Content-Type", kind), ("Content-Length", str(length or len(content)))]
        start_response("200 OK", headers)
        return [content]

    return application


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None: ...
