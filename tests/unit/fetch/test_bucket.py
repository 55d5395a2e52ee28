"""A bucket whose server is slow, wrong or away. What works is tested with the stores."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from slurm_factory.fetch.bucket import Bucket, _wait
from slurm_factory.fetch.http import TransferError, UnreachableError


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts everything and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def names(endpoint: str, monkeypatch: pytest.MonkeyPatch, timeout: float = 60) -> list[str]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return Bucket("s3://bucket/x", timeout).names("")


def test_ctrl_c_ends_it_while_a_server_is_silent(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        names(silent, monkeypatch)
    assert time.monotonic() - began < 20


def test_server_that_is_silent_is_given_up(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransferError, match="failed"):
        names(silent, monkeypatch, timeout=0.2)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("http://127.0.0.1:9", "no connection to http://127.0.0.1:9: connection refused"),
        ("http://a:b@localhost:9", r"no connection to http://\*\*\*@localhost:9: connection ref"),
        ("http://no-such-host.invalid", "no connection to http://no-such-host.invalid: "),
    ],
)
def test_host_that_cannot_be_reached(
    endpoint: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnreachableError, match=why):
        names(endpoint, monkeypatch)


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://host", "http://", "http://a b"])
def test_endpoint_that_is_no_url(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransferError, match="AWS_ENDPOINT_URL"):
        names(endpoint, monkeypatch)


def test_variable_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "maybe")
    with pytest.raises(TransferError, match='cannot be used: failed to parse "maybe"'):
        names("http://127.0.0.1:9", monkeypatch)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_request_that_broke() -> None:
    def panic() -> None:
        raise RuntimeError("as the library does not document it")

    with pytest.raises(CancelledError):
        _wait(panic)
    for thread in threading.enumerate():
        if "(ask)" in thread.name:
            thread.join(60)
