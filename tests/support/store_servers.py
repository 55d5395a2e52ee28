"""Real servers for stores: Docker's registry and Ceph's S3 gateway, as Debian packages them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
import requests
from obstore.store import S3Store as Bucket

SERVERS = Path(__file__).parent / "servers"
PATIENCE = 120
"""Seconds after which a server that should be there counts as one that will not come."""
REGISTRY = str(Path(sys.prefix, "share/docker-registry/usr/bin/docker-registry"))
STARTS = 4
START_PATIENCE = 60
"""Seconds for Ceph to come up, which takes about ten; then it is started again."""
END_PATIENCE = 15
S3_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def require(*programs: str) -> None:
    """Skip a test whose server is not installed (tests/install-test-tools.sh)."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        pytest.skip(f"no {' '.join(missing)} on this machine")


@dataclass
class Server:
    """A server that runs.

    Attributes:
        host: Its name and port.
        root: Where it keeps what it has.
        process: For tests that end it.
    """

    host: str
    root: Path
    process: subprocess.Popen[bytes]

    def end(self) -> None:
        """End it, and wait for that."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"{process.args!r} does not answer at {url}.")


@contextmanager
def registry(
    directory: Path, *, deletes: bool = True, password_file: str = "", port: int = 0
) -> Iterator[Server]:
    """Docker's registry.

    Args:
        directory: Its storage (host), which may have something in it.
        deletes: Whether it allows that.
        password_file: Content of a file of htpasswd(1), without which everybody may do everything.
        port: Where it listens; 0: anywhere.
    """
    require(REGISTRY)
    port = port or free_port()
    directory.mkdir(exist_ok=True)
    text = (SERVERS / "registry.yml").read_text()
    values = {"PORT": port, "DIRECTORY": directory / "data", "DELETE": str(deletes).lower()}
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    if password_file:
        (directory / "passwords").write_text(password_file)
        text += f"auth:\n  htpasswd:\n    realm: x\n    path: {directory / 'passwords'}\n"
    (directory / "config.yml").write_text(text)
    with (directory / "log").open("ab") as log:
        command = [REGISTRY, "serve", str(directory / "config.yml")]
        environment = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}/v2/", process)
        yield Server(f"127.0.0.1:{port}", directory / "data", process)
    finally:
        process.kill()
        process.wait(PATIENCE)


@contextmanager
def s3_server(directory: Path) -> Iterator[Server]:
    """Ceph's S3 gateway. It takes about ten seconds to come up.

    On a busy machine Ceph sometimes ends while it starts; then it starts again.
    """
    require(*S3_PROGRAMS)
    for attempt in range(STARTS):
        root = directory / f"ceph{attempt}"
        root.mkdir(parents=True)
        with _ceph(root) as server:
            if server:
                yield server
                return
    pytest.fail((root / "log").read_text()[-2000:])


@contextmanager
def _ceph(directory: Path) -> Iterator[Server | None]:
    """The gateway; None if it does not come up."""
    port, monitor = free_port(), free_port()
    command = [str(SERVERS / "s3.sh"), str(directory), str(port), str(monitor)]
    with (directory / "log").open("ab") as log:
        # Also ends with tests that are killed.
        command = ["setpriv", "--pdeathsig", "TERM", *command]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + START_PATIENCE
        ready = directory / "ready"
        while not ready.exists() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.1)
        if ready.exists():
            _wait_until_it_answers(f"http://127.0.0.1:{port}", process)
            yield Server(f"127.0.0.1:{port}", directory, process)
        else:
            yield None
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_PATIENCE)
        # A command without a store to answer it waits for ever, and the script for it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


def s3_environment(server: Server, secret: str = "secret") -> dict[str, str]:
    """What a user sets for it."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL": f"http://{server.host}",
    }


def bucket(server: Server, name: str) -> Bucket:
    """A bucket, which is made."""
    found = Bucket(
        name,
        endpoint=f"http://{server.host}",
        access_key_id="test",
        secret_access_key="secret",
        client_options={"allow_http": True},
    )
    made = requests.put(obstore.sign(found, "PUT", "", timedelta(minutes=1)), timeout=PATIENCE)
    assert made.ok, made.text
    return found
