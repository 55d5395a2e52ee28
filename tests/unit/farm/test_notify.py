"""Results are told to programs and servers."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from reporter_samples import Listener

from slurm_factory.farm.notify import notify_all

DOCUMENT = {"exit_code": 0, "cells": [{"source": "https://user:secret@host/x", "path": Path("/x")}]}


class Server(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; /bad is refused."""

    posted: list[bytes] = []  # noqa: RUF012  # one server a test

    def do_POST(self) -> None:
        self.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(500 if self.path == "/bad" else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[str]:
    Server.posted = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def told(*targets: str) -> list[str]:
    reporter = Listener()
    notify_all(targets, DOCUMENT, reporter)
    return reporter.warnings


def test_command_gets_the_document_without_a_shell(tmp_path: Path) -> None:
    path = tmp_path / "a b;$HOME"
    assert told(f"tee '{path}'") == []
    document = json.loads(path.read_text())
    assert document["cells"][0]["path"] == "/x"
    assert "secret" not in path.read_text()


def test_server_gets_the_document(server: str) -> None:
    assert told(f"http://user:secret@{server}/good") == []
    assert json.loads(Server.posted[0])["exit_code"] == 0


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("false", "exit code 1: It said nothing."),
        ("/nonexistent/program x", "exit code 127"),
        ("/etc/passwd", "Permission denied."),
        ("sh -c 'echo why >&2; exit 3'", "exit code 3: why"),
        ("http://user:secret@127.0.0.1:1/x", "ConnectionError"),
        ("http://user:secret@{server}/bad", "The server answered 500"),
    ],
)
def test_what_fails_is_a_warning_without_credentials(server: str, target: str, why: str) -> None:
    warnings = told(target.format(server=server))
    assert len(warnings) == 1
    assert why in warnings[0]
    assert "secret" not in warnings[0]


def test_one_that_fails_keeps_no_other_from_being_told(tmp_path: Path) -> None:
    assert len(told("false", f"tee {tmp_path / 'told'}")) == 1
    assert (tmp_path / "told").exists()
