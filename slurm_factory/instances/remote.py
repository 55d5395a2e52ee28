"""The way to another LXD: a socket on this machine whose connections end there.

Every lxc of this program uses the remote `local:`, and so does craft-providers; its client of LXD
opens the local socket whatever remote is named (lxd_instance.py, `pylxd.Client(project=...)`).
While a remote is open, `local:` therefore is that remote: a socket in a private directory takes
connections, LXD_DIR names it for this process and its children, and each connection is carried on
by TLS with the certificates of the user's lxc. It can go when craft-providers talks to the remote
that it is given.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from slurm_factory.exceptions import ConfigurationError, LXDError, OutputError
from slurm_factory.util.documents import read_json
from slurm_factory.util.files import atomic_write
from slurm_factory.util.hints import nearest, quoted

SOCKET = "unix.socket"
"""Name of the socket in the directory LXD_DIR (client of LXD)."""
VARIABLES = ("LXD_DIR", "LXD_SOCKET")
PORT = 8443
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
CHUNK = 1 << 18
TURNS = 5
"""Of an event loop, after which a transport that was aborted has gone."""
KEEPALIVE = {
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 35_000,
}
"""In seconds, and probes: so long a connection to a machine that has gone stays open (tcp(7)).
While data is under way, no probes are sent: then the last one counts, in milliseconds."""
PREFIX = "slurm-factory-remote-"
LONGEST_SOCKET = 107
"""Bytes of the path of a socket (unix(7))."""


class MemberLostError(LXDError):
    """The machine on which a build ran is gone."""

    elsewhere = True


@dataclass(frozen=True)
class Address:
    """Where a server of LXD listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Target:
    """A remote of the user's lxc, with what is needed to talk to it.

    Attributes:
        name: Its name.
        address: Of the server; None if it is a socket on this machine.
        path: The socket (host); None if it is a server, or the socket of this machine's own LXD.
        context: TLS with the user's certificate.
        pinned: SHA-256 of the server's certificate; empty if an authority vouches for it.
    """

    name: str
    address: Address | None = None
    path: Path | None = None
    context: ssl.SSLContext | None = None
    pinned: str = ""


def find_remote(name: str) -> Target:
    """A remote by its name in the configuration of the user's lxc.

    Raises:
        ConfigurationError: There is no such remote, or it is no LXD.
        LXDError: The user's certificate for it cannot be used.
    """
    directory, remotes = _configuration(name)
    if name not in remotes:
        near = nearest(name, list(remotes))
        raise ConfigurationError(
            f"lxc has no remote {quoted(name)}.",
            details=f"Did you mean {near}?"
            if near
            else f"{directory / 'config.yml'} does not name it.",
            resolution=f"Run `lxc remote add {name} ADDRESS`, or `lxc remote list`.",
        )
    about = remotes[name]
    url = urlsplit(str(about.get("addr", "")))
    if about.get("public") or about.get("protocol", "lxd") != "lxd":
        raise ConfigurationError(
            f"The remote {name} is a server of images, and no LXD.",
            details=f"Its address is {url.geturl()}.",
            resolution="`lxc remote list` shows the others.",
        )
    if url.scheme == "unix":
        return Target(name, path=Path(url.path) if url.path else None)
    if url.scheme != "https" or not url.hostname:
        raise ConfigurationError(
            f"The address of the remote {name} cannot be used.",
            details=f"It is {quoted(url.geturl())}.",
            resolution=f"Run `lxc remote set-url {name} https://HOST:{PORT}`.",
        )
    context, pinned = _security(directory, name)
    return Target(name, Address(url.hostname, url.port or PORT), context=context, pinned=pinned)


def configuration_directories() -> tuple[Path, ...]:
    """Where lxc may keep its configuration (host): LXD_CONF, else that of the snap, or its own."""
    chosen = os.environ.get("LXD_CONF")
    if chosen:
        return (Path(chosen),)
    return (Path.home() / "snap/lxd/common/config", Path.home() / ".config/lxc")


def _configuration(name: str) -> tuple[Path, Mapping[str, Any]]:
    """The directory and remotes of the first configuration with a remote of this name."""
    places = configuration_directories()
    found: list[tuple[Path, Mapping[str, Any]]] = []
    for directory in places:
        file = directory / "config.yml"
        try:
            remotes = yaml.safe_load(file.read_text("utf-8"))["remotes"]
            found.append((directory, {str(key): dict(remotes[key]) for key in remotes}))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"The configuration of lxc in {file} cannot be read.",
                details=" ".join(str(error).split()) or type(error).__name__,
                resolution="Correct it, and try `lxc remote list`.",
            ) from error
    with_it = [each for each in found if name in each[1]]
    return (with_it or found or [(places[-1], {})])[0]


def _security(directory: Path, name: str) -> tuple[ssl.SSLContext, str]:
    pinned = directory / "servercerts" / f"{name}.crt"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(
            directory / "client.crt",
            directory / "client.key",
            # Else OpenSSL would ask on the terminal.
            password="",
        )
    except (OSError, ssl.SSLError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise LXDError(
            "The certificate of your lxc cannot be used.",
            details=f"{directory} has no client.crt and client.key."
            if missing
            else f"client.crt or client.key in {directory} is damaged, encrypted or unreadable.",
            resolution=f"Run `lxc remote add {name} ADDRESS`, which makes them.",
        ) from error
    if not pinned.exists():
        context.load_default_certs()
        return context, ""
    try:
        certificate = ssl.PEM_cert_to_DER_cert(pinned.read_text("ascii"))
    except (OSError, ValueError) as error:
        raise LXDError(
            f"The certificate of the remote {name} cannot be read.",
            details=f"{pinned} is damaged or unreadable.",
            resolution=f"Run `lxc remote remove {name}`, and add it again.",
        ) from error
    # The very certificate counts, and neither its authority, its name nor its dates.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context, hashlib.sha256(certificate).hexdigest()


def _require_pinned(target: Target, certificate: bytes | None) -> None:
    if target.pinned and hashlib.sha256(certificate or b"").hexdigest() != target.pinned:
        raise LXDError(
            f"The certificate of the remote {target.name} has changed.",
            details=f"{target.address} shows another one than lxc has noted: it was renewed, or"
            " somebody else answers.",
            resolution=f"If it was renewed: lxc remote remove {target.name}; lxc remote add"
            f" {target.name} {target.address}",
        )


def _unreached(target: Target, error: Exception) -> LXDError:
    """The error for a server that cannot be talked to."""
    resolution = f"Try `lxc list {target.name}:`; `lxc remote list` shows its address."
    where = target.address or target.path or "The socket of LXD on this machine"
    if target.address is None:
        details = f"{where}: {getattr(error, 'strerror', None) or error}."
        resolution = "Look whether LXD runs there; `lxc remote list` shows the socket."
    elif isinstance(error, ConnectionRefusedError):
        details = f"{target.address} refuses connections: LXD does not run, or does not listen."
        resolution = "Start LXD there, and run `lxc config set core.https_address :8443`."
    elif isinstance(error, socket.gaierror):
        details = f"The name {target.address.host} cannot be resolved."
    elif isinstance(error, TimeoutError):
        details = f"{target.address} did not answer in time."
    elif isinstance(error, ssl.SSLError):
        details = f"{target.address} does not speak TLS as expected: {error.reason or error}."
    else:
        details = f"{where}: {getattr(error, 'strerror', None) or error}."
    return LXDError(
        f"The remote {target.name} cannot be reached.", details=details, resolution=resolution
    )


@dataclass
class Remote:
    """An open remote. Its forwarder and its questions share the addresses.

    Attributes:
        target: What it is.
        addresses: Of the server and, in a cluster, of the members; the first one is tried first.
        members: Addresses of the members of a cluster by their names.
        outside: The variables among `VARIABLES` as they were before it was opened.
        problem: Why the last connection failed; None if it did not.
        lost: The member that is gone while something ran on it; empty if there is none.
    """

    target: Target
    addresses: list[Address] = field(default_factory=list)
    members: dict[str, Address] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)
    problem: LXDError | None = None
    lost: str = ""

    @property
    def name(self) -> str:
        """Of the remote."""
        return self.target.name

    def ask(
        self,
        path: str,
        *,
        without: Sequence[Address] = (),
        seconds: float = ANSWER_SECONDS,
    ) -> Any:
        """The metadata of the answer to `GET path`.

        Args:
            path: Path of LXD's API, with its query.
            without: Addresses that are not asked.
            seconds: Limit for each answer.

        Raises:
            LXDError: Nobody answers, or the answer is an error.
        """
        if self.target.address is None:
            try:
                with _Connection(_local_socket(self.target.path), seconds) as connection:
                    answer = connection.get(path)
            except (OSError, http.client.HTTPException) as error:
                raise _unreached(self.target, error) from error
            return _metadata(self.target, answer)
        failure: LXDError | None = None
        for address in [each for each in self.addresses if each not in without]:
            try:
                with _Connection(self._connect(address), seconds) as connection:
                    answer = connection.get(path)
            except (OSError, http.client.HTTPException) as error:
                failure = failure or _unreached(self.target, error)
                continue
            if not without:
                # Those before it would have to be waited for again.
                self.prefer(address)
            return _metadata(self.target, answer)
        raise failure or _unreached(self.target, OSError("no address is left"))

    def answers(self, address: Address) -> bool:
        """Whether a server takes connections at an address."""
        try:
            self._connect(address).close()
        except (OSError, LXDError):
            return False
        return True

    def prefer(self, address: Address) -> None:
        """Try an address first."""
        self.addresses = [address, *(each for each in self.addresses if each != address)]

    def _connect(self, address: Address) -> socket.socket:
        assert self.target.context  # noqa: S101  # it has an address
        with socket.create_connection((address.host, address.port), CONNECT_SECONDS) as plain:
            secure = self.target.context.wrap_socket(plain, server_hostname=address.host)
        try:
            _require_pinned(self.target, secure.getpeercert(binary_form=True))
        except BaseException:
            secure.close()
            raise
        return secure

    async def open_connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first address that answers; notes the problem if none does.

        Raises:
            OSError: None answers.
            LXDError: The certificate is another one.
        """
        last: Exception = OSError("no address")
        for address in tuple(self.addresses):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(
                        address.host, address.port, ssl=self.target.context, limit=CHUNK
                    )
                tls = writer.get_extra_info("ssl_object")
                try:
                    _require_pinned(self.target, tls.getpeercert(binary_form=True))
                except LXDError as error:
                    writer.close()
                    self.problem = error
                    raise
            except OSError as error:
                last = error
                continue
            _keep_alive(writer.get_extra_info("socket"))
            self.problem = None
            if address != self.addresses[0]:
                self.prefer(address)
            return reader, writer
        self.problem = _unreached(self.target, last)
        raise last


class _Connection:
    """One question over a socket."""

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        connected.settimeout(seconds)
        self._client = http.client.HTTPConnection("lxd")
        self._client.sock = connected

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str) -> bytes:
        self._client.request("GET", path)
        return self._client.getresponse().read()


def _local_socket(path: Path | None) -> socket.socket:
    from slurm_factory.host.socket import socket_path  # noqa: PLC0415  # needs LXD_DIR as it is now

    client = socket.socket(socket.AF_UNIX)
    client.settimeout(CONNECT_SECONDS)
    try:
        client.connect(str(path or socket_path() or SOCKET))
    except BaseException:
        client.close()
        raise
    return client


def _metadata(target: Target, answer: bytes) -> Any:
    try:
        document = json.loads(answer)
        problem = document.get("error")
    except (ValueError, AttributeError) as error:
        raise LXDError(
            f"The remote {target.name} is no LXD.",
            details="It does not answer as LXD does.",
            resolution="`lxc remote list` shows its address.",
        ) from error
    if problem:
        raise LXDError(
            f"The remote {target.name} refused a question.",
            details=f"{problem}.",
            resolution=f"Run `lxc list {target.name}:`, which shows whether you may use it.",
        )
    return document["metadata"]


def _keep_alive(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


_open: list[Remote] = []


def open_now() -> Remote | None:
    """The remote that `local:` is; None if it is this machine's own LXD."""
    return _open[-1] if _open else None


def variables_outside() -> dict[str, str]:
    """The environment for a child that opens a remote itself, or uses the LXD of this machine."""
    remote = open_now()
    if remote is None:
        return dict(os.environ)
    inside = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return inside | dict(remote.outside)


def require_not_lost() -> None:
    """Fail at once if what runs on the open remote has lost its member: LXD would only try.

    Raises:
        MemberLostError: It has.
    """
    remote = open_now()
    if remote and remote.lost:
        raise member_lost(remote)


def member_lost(remote: Remote) -> MemberLostError:
    """The error for a build whose member is gone."""
    return MemberLostError(
        f"The member {remote.lost} of {remote.name} is gone.",
        details="It does not answer any more, and the build ran on it.",
        resolution="Run the command again: another member takes it. When the member is back,"
        f" `slurm-factory clean --remote {remote.name}` removes what is left there.",
    )


@contextmanager
def open_remote(name: str, notes: Path) -> Iterator[Remote]:
    """Make `local:` the remote of this name for this process and its children.

    Args:
        name: Of the remote.
        notes: Directory (host) of the addresses of members, as they were last: lxc knows one only,
            which may be that of a member that is gone. All show the same certificate.

    Raises:
        ConfigurationError: There is no such remote.
        LXDError: It cannot be reached, is not what lxc has noted, or does not trust the user.
    """
    target = find_remote(name)
    before = {key: os.environ[key] for key in VARIABLES if key in os.environ}
    remote = Remote(target, [target.address] if target.address else [], outside=before)
    noted = notes / f"{name}.json"
    if target.address:
        remote.addresses += [each for each in _noted(noted) if each != target.address]
    about = remote.ask("/1.0")
    if about.get("auth") != "trusted":
        raise _untrusted(target)
    if target.address and about["environment"].get("server_clustered"):
        for member in remote.ask("/1.0/cluster/members?recursion=1"):
            url = urlsplit(str(member["url"]))
            address = Address(url.hostname or "", url.port or PORT)
            remote.members[str(member["server_name"])] = address
        known = remote.members.values()
        remote.addresses = list(dict.fromkeys([*remote.addresses[:1], *known]))
        _note(noted, remote.addresses)
    with _socket_for(remote) as directory, _variables(directory, before):
        _open.append(remote)
        try:
            yield remote
        finally:
            _open.remove(remote)


def _noted(file: Path) -> list[Address]:
    try:
        return [Address(str(host), int(port)) for host, port in read_json(file)]
    except (OSError, ValueError, TypeError):
        return []


def _note(file: Path, addresses: Sequence[Address]) -> None:
    """Keep addresses, if there is a cache directory; without them, only a first one is missing."""
    with suppress(OSError, OutputError):
        if file.parent.parent.is_dir() and _noted(file) != list(addresses):
            file.parent.mkdir(exist_ok=True)
            with atomic_write(file) as written:
                written.write(json.dumps([[each.host, each.port] for each in addresses]).encode())


def _untrusted(target: Target) -> LXDError:
    return LXDError(
        f"The remote {target.name} does not trust you.",
        details="It does not know the certificate of your lxc, or no longer.",
        resolution="Run `lxc config trust add` there, then here: lxc remote remove"
        f" {target.name}; lxc remote add {target.name} TOKEN",
    )


@contextmanager
def _variables(directory: Path | None, before: Mapping[str, str]) -> Iterator[None]:
    if directory is None:
        yield
        return
    for name in before:
        del os.environ[name]
    os.environ["LXD_DIR"] = str(directory)
    try:
        yield
    finally:
        del os.environ["LXD_DIR"]
        os.environ.update(before)


@contextmanager
def _socket_for(remote: Remote) -> Iterator[Path | None]:
    """The directory (host) whose socket leads to a remote; None if it is this machine's LXD."""
    target = remote.target
    if target.address is None and target.path is None:
        yield None
    elif target.path and target.path.name == SOCKET:
        yield target.path.parent
    else:
        directory = _private_directory()
        try:
            if target.path:
                (directory / SOCKET).symlink_to(target.path)
                yield directory
            else:
                with _forwarder(remote, directory / SOCKET):
                    yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _private_directory() -> Path:
    """A new directory (host) in which a socket may be.

    Nobody else can enter it: who opens the socket acts as this user.
    """
    temporary = tempfile.gettempdir()
    problem = f"The path of a socket may have {LONGEST_SOCKET} bytes, and {temporary} is too long."
    for parent in (temporary, os.environ.get("XDG_RUNTIME_DIR"), "/tmp"):  # noqa: S108  # as above
        # mkdtemp adds eight characters.
        longest = f"{parent}/{PREFIX}{'x' * 8}/{SOCKET}"
        if not parent or len(os.fsencode(longest)) > LONGEST_SOCKET:
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        except OSError as error:
            problem = f"{parent}: {error.strerror}."
    raise LXDError(
        "No directory can be made for the socket that leads to the remote.",
        details=problem,
        resolution="Set TMPDIR to a short path that you can write to, such as /tmp.",
    )


@contextmanager
def _forwarder(remote: Remote, path: Path) -> Iterator[None]:
    """Carry connections to a socket on, in a thread."""
    loop = asyncio.new_event_loop()
    tasks: set[asyncio.Task[None]] = set()
    transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101  # it is one
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        transports.add(writer.transport)
        try:
            with suppress(OSError, LXDError, asyncio.CancelledError):
                far_reader, far_writer = await remote.open_connection()
                transports.add(far_writer.transport)
                await _carry(reader, writer, far_reader, far_writer)
        finally:
            writer.close()

    async def end(server: asyncio.Server) -> None:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # TLS would wait for the other side to say that it has ended, too.
        for transport in tuple(transports):
            transport.abort()
        for _ in range(TURNS):
            await asyncio.sleep(0)

    thread = threading.Thread(target=loop.run_forever, name="forwarder", daemon=True)
    thread.start()
    started = asyncio.start_unix_server(carry, path, limit=CHUNK)
    server = asyncio.run_coroutine_threadsafe(started, loop).result()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes in both directions until one side ends."""
    ways = [
        asyncio.ensure_future(_copy(reader, far_writer)),
        asyncio.ensure_future(_copy(far_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(CHUNK):
        writer.write(part)
        await writer.drain()
