"""Whether LXD's daemon takes connections, on sockets of the test's own."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from slurm_factory.host import socket as looking
from slurm_factory.host.facts import Daemon
from slurm_factory.host.socket import socket_state


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the daemon's socket would be; paths of sockets are short (unix(7))."""
    directory = mkdtemp(prefix="daemon-")
    monkeypatch.setenv("LXD_DIR", directory)
    yield Path(directory) / "unix.socket"
    shutil.rmtree(directory)


def test_daemon_that_listens_is_distinguished_from_one_that_left_its_socket_or_was_never_there(
    path: Path,
) -> None:
    assert socket_state() is Daemon.STOPPED
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(path))
        daemon.listen()
        assert socket_state() is Daemon.ANSWERING
    assert path.exists()
    assert socket_state() is Daemon.STOPPED


def test_daemon_that_takes_no_more_connections_does_not_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "CONNECT_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX) as daemon, socket.socket(socket.AF_UNIX) as other:
        daemon.bind(str(path))
        daemon.listen(0)
        other.connect(str(path))
        assert socket_state() is Daemon.SILENT


def test_socket_that_this_user_may_not_use_says_nothing_about_the_daemon(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Denied(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(13, "Permission denied", address)

    path.touch()
    monkeypatch.setattr(socket, "socket", Denied)
    assert socket_state() is Daemon.DENIED
