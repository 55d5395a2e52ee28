"""A server that speaks as much of LXD's API, over TLS, as the way to another LXD needs."""

import json
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import yaml


def make_certificate(directory: Path, name: str) -> None:
    """NAME.crt and NAME.key, signed by themselves, in a directory (host)."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x")
    files = ("-keyout", directory / f"{name}.key", "-out", directory / f"{name}.crt")
    subprocess.run(["openssl", "req", "-x509", *key, *files], check=True, capture_output=True)


@dataclass
class FakeLxd:
    """A server of LXD on this machine; `answers` are metadata by path, with or without a query.

    Attributes:
        certificate: Directory (host) with server.crt and server.key.
        answers: May be changed at any time.
        asked: The paths that were asked for.
    """

    certificate: Path
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # http.server calls it so
                fake.asked.append(self.path)
                every = fake.answers.get(self.path.partition("?")[0])
                found = fake.answers.get(self.path, every)
                about = {"metadata": found} if found is not None else {"error": "not found"}
                content = json.dumps(about).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...

        self._server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate / "server.crt", self.certificate / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.answers.setdefault("/1.0", about_server())
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{self.port}"


def about_server(*, clustered: bool = False, auth: str = "trusted") -> dict[str, Any]:
    """The metadata of /1.0."""
    return {
        "auth": auth,
        "api_extensions": [],
        "environment": {
            "server_clustered": clustered,
            "server_name": "one",
            "kernel_architecture": "aarch64",
        },
    }


def about_member(name: str, url: str, **changes: Any) -> dict[str, Any]:
    """The metadata of a member of a cluster."""
    about = {
        "server_name": name,
        "url": url,
        "status": "Online",
        "message": "Fully operational",
        "architecture": "x86_64",
        "groups": ["default"],
    }
    return about | changes


def make_cluster(servers: dict[str, FakeLxd], **changes: dict[str, Any]) -> None:
    """Let servers be members of one cluster; `changes`, by name, of what is said about them."""
    members = [about_member(n, s.url, **changes.get(n, {})) for n, s in servers.items()]
    for server in servers.values():
        server.answers["/1.0"] = about_server(clustered=True)
        server.answers["/1.0/cluster/members"] = members
        for member in members:
            server.answers[f"/1.0/cluster/members/{member['server_name']}"] = member


def configure_lxc(directory: Path, certificates: Path, **remotes: dict[str, Any] | str) -> None:
    """A configuration of lxc (host) with remotes: addresses, or all that is said about them.

    Args:
        directory: Of the configuration.
        certificates: Directory with server.crt, and with client.crt and client.key if there are.
        remotes: By name.
    """
    (directory / "servercerts").mkdir(parents=True, exist_ok=True)
    for name in ("client.crt", "client.key"):
        if (certificates / name).exists():
            (directory / name).write_bytes((certificates / name).read_bytes())
    document: dict[str, Any] = {}
    for name, about in remotes.items():
        document[name] = {"addr": about, "protocol": "lxd"} if isinstance(about, str) else about
        certificate = (certificates / "server.crt").read_bytes()
        (directory / "servercerts" / f"{name}.crt").write_bytes(certificate)
    (directory / "config.yml").write_text(yaml.safe_dump({"remotes": document}))
