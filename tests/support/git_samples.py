"""Git repositories for tests, and a server that gives them away over HTTP."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

AUTHOR = ("-c", "user.name=A Tester", "-c", "user.email=tester@example.org")
META = "##\n  Meta:\t\t1\n  Name:\t\tslurm\n  Version:\t{version}\n  Release:\t{release}\n"
"""The file of that name in a source of Slurm."""
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def run_git(directory: Path, *arguments: str) -> str:
    """Run git in a repository; returns what it printed."""
    command = ["git", "-C", str(directory), *AUTHOR, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_repository(directory: Path, files: dict[str, str]) -> Path:
    """A repository whose first commit is tagged v1.0, and whose second v1.1.0."""
    directory.mkdir(parents=True, exist_ok=True)
    run_git(directory, "init", "--quiet", "--initial-branch=master")
    write_files(directory, {"OLD": "gone in the second commit\n"})
    commit(directory, "one")
    run_git(directory, "tag", "v1.0")
    (directory / "OLD").unlink()
    write_files(directory, files)
    (directory / "link").symlink_to("README")
    program = directory / "bin/spack"
    if program.exists():
        program.chmod(0o755)
    commit(directory, "two")
    run_git(directory, "tag", "--annotate", "--message=annotated", "v1.1.0")
    run_git(directory, "branch", "develop")
    return directory


def commit(repository: Path, message: str) -> str:
    """Commit everything; returns the commit's id."""
    run_git(repository, "add", "--all")
    run_git(repository, "commit", "--quiet", "--allow-empty", f"--message={message}")
    return head(repository)


def head(repository: Path) -> str:
    """The id of the commit that is checked out."""
    return run_git(repository, "rev-parse", "HEAD")


def write_files(directory: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@dataclass
class GitServer:
    """The requests to a server, and its prepared faults, one per request.

    Attributes:
        url: URL of the repository.
        requests: Method, path and authorization of each request.
        script: Stand-ins; the repository itself answers where there is none.
    """

    url: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    script: list[Application | None] = field(default_factory=list)


@contextmanager
def served(repository: Path) -> Iterator[GitServer]:
    """A smart HTTP server on the loopback device with one repository, /spack.git."""
    state = GitServer()

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
        state.requests.append((*asked, environ.get("HTTP_AUTHORIZATION", "")))
        chosen = state.script.pop(0) if state.script else None
        return chosen(environ, start_response) if chosen else answer(environ, start_response)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """By git-http-backend(1), a CGI program."""
        path = environ["PATH_INFO"].removeprefix("/spack.git")
        length = int(environ.get("CONTENT_LENGTH") or 0)
        asked = {key: value for key, value in environ.items() if isinstance(value, str)}
        done = subprocess.run(
            ["git", "http-backend"],
            input=environ["wsgi.input"].read(length),
            env={
                **os.environ,
                **asked,
                "GIT_PROTOCOL": environ.get("HTTP_GIT_PROTOCOL", ""),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_TRANSLATED": f"{repository}/.git{path}",
            },
            capture_output=True,
            check=False,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        start_response(headers.pop("Status", "200 OK"), [*headers.items()])
        return [content]

    with make_server("127.0.0.1", 0, application, handler_class=_Quiet) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/spack.git"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def status(line: str, **headers: str) -> Application:
    """Answers with a status, such as `503 Service Unavailable`, and no content."""

    def application(_: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        start_response(line, [("Content-Length", "0"), *named])
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
