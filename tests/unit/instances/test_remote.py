"""The way to another LXD, over TLS and sockets that are real."""

import json
import os
import socket
import stat
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from fake_lxd import FakeLxd, about_server, configure_lxc, make_certificate, make_cluster

from slurm_factory.exceptions import ConfigurationError, LXDError, SlurmFactoryError
from slurm_factory.host.facts import Daemon
from slurm_factory.host.socket import socket_path, socket_state
from slurm_factory.instances import remote as remotes
from slurm_factory.instances.lxc import explain
from slurm_factory.instances.remote import Address, open_now, open_remote


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_certificate(directory, "server")
    make_certificate(directory, "client")
    return directory


@pytest.fixture
def server(certificates: Path) -> Iterator[FakeLxd]:
    with FakeLxd(certificates) as server:
        yield server


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "lxc"
    monkeypatch.setenv("LXD_CONF", str(directory))
    monkeypatch.setenv("LXD_SOCKET", "/nowhere")
    monkeypatch.delenv("LXD_DIR", raising=False)
    return directory


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "remotes"


def ask_locally(path: str) -> Any:
    """What the socket in LXD_DIR answers, as lxc and pylxd ask it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(Path(os.environ["LXD_DIR"]) / "unix.socket"))
        connection = HTTPConnection("unix.socket")
        connection.sock = client
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())


def failure(name: str, notes: Path) -> SlurmFactoryError:
    with pytest.raises(SlurmFactoryError) as caught, open_remote(name, notes):
        pass
    assert open_now() is None
    assert caught.value.resolution
    return caught.value


def test_the_local_socket_leads_to_the_remote_and_is_as_before_afterwards(
    server: FakeLxd, conf: Path, notes: Path, certificates: Path
) -> None:
    configure_lxc(conf, certificates, farm=server.url)
    server.answers["/1.0/instances"] = ["/1.0/instances/x"]
    with open_remote("farm", notes):
        directory = Path(os.environ["LXD_DIR"])
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert socket_path() == directory / "unix.socket"
        assert socket_state() is Daemon.ANSWERING
        assert "LXD_SOCKET" not in os.environ
        for _ in range(3):
            assert ask_locally("/1.0/instances")["metadata"] == ["/1.0/instances/x"]
    assert not directory.exists()
    assert "LXD_DIR" not in os.environ
    assert os.environ["LXD_SOCKET"] == "/nowhere"
    assert open_now() is None


def test_a_remote_on_a_socket_needs_only_the_variable(
    conf: Path, notes: Path, certificates: Path, tmp_path: Path
) -> None:
    path = tmp_path / "else.socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        configure_lxc(conf, certificates, near=f"unix://{path}")
        target = remotes.find_remote("near")
        assert (target.address, target.path) == (None, path)
        with remotes._socket_for(remotes.Remote(target)) as directory:
            assert directory
            assert (directory / "unix.socket").resolve() == path


def test_a_socket_that_is_missing_is_named_with_its_path(
    conf: Path, notes: Path, certificates: Path, tmp_path: Path
) -> None:
    path = tmp_path / "none.socket"
    configure_lxc(conf, certificates, near=f"unix://{path}")
    error = failure("near", notes)
    assert isinstance(error, LXDError)
    assert error.details == f"{path}: No such file or directory."
    with pytest.raises(LXDError, match="cannot be reached"):
        remotes.Remote(remotes.find_remote("near")).ask("/1.0")


def test_a_long_directory_for_temporary_files_is_passed_over(
    server: FakeLxd,
    conf: Path,
    notes: Path,
    certificates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure_lxc(conf, certificates, farm=server.url)
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with open_remote("farm", notes):
        assert Path(os.environ["LXD_DIR"]).parent == Path("/tmp")
        assert ask_locally("/1.0")["metadata"]["auth"] == "trusted"
    monkeypatch.setattr(remotes, "LONGEST_SOCKET", 10)
    error = failure("farm", notes)
    assert str(long) in error.details
    assert "TMPDIR" in error.resolution


def test_connections_end_with_the_machine_also_while_data_is_under_way() -> None:
    with socket.socket() as connected:
        remotes._keep_alive(connected)
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 35_000


def test_a_name_that_lxc_does_not_know_is_an_error_with_the_nearest_one(
    conf: Path, notes: Path, certificates: Path
) -> None:
    configure_lxc(conf, certificates, farming="https://h.example:8443")
    error = failure("farmimg", notes)
    assert isinstance(error, ConfigurationError)
    assert "farming" in error.details


def test_a_server_of_images_is_no_place_for_builds(
    conf: Path, notes: Path, certificates: Path
) -> None:
    about = {"addr": "https://images.example", "protocol": "simplestreams", "public": True}
    configure_lxc(conf, certificates, images=about)
    assert "images" in failure("images", notes).brief


@pytest.mark.parametrize("content", ["remotes: [1", "remotes: 3", "[]", "remotes: {farm: 3}"])
def test_a_damaged_configuration_of_lxc_is_named(conf: Path, notes: Path, content: str) -> None:
    conf.mkdir()
    (conf / "config.yml").write_text(content)
    error = failure("farm", notes)
    assert isinstance(error, ConfigurationError)
    assert "config.yml" in error.brief


def test_a_changed_certificate_ends_it_before_anything_is_sent(
    server: FakeLxd, conf: Path, notes: Path, certificates: Path, tmp_path: Path
) -> None:
    make_certificate(tmp_path / "other", "server")
    (tmp_path / "other" / "client.crt").write_bytes((certificates / "client.crt").read_bytes())
    (tmp_path / "other" / "client.key").write_bytes((certificates / "client.key").read_bytes())
    configure_lxc(conf, tmp_path / "other", farm=server.url)
    error = failure("farm", notes)
    assert "has changed" in error.brief
    assert "lxc remote remove farm" in error.resolution
    assert server.asked == []


def test_a_server_that_refuses_is_named_with_its_address(
    conf: Path, notes: Path, certificates: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        configure_lxc(conf, certificates, farm=f"https://127.0.0.1:{port}")
        error = failure("farm", notes)
    assert f"127.0.0.1:{port} refuses" in error.details


def test_a_server_that_does_not_trust_the_user_says_what_to_do(
    server: FakeLxd, conf: Path, notes: Path, certificates: Path
) -> None:
    configure_lxc(conf, certificates, farm=server.url)
    server.answers["/1.0"] = about_server(auth="untrusted")
    error = failure("farm", notes)
    assert isinstance(error, LXDError)
    assert "does not trust you" in error.brief
    assert "lxc config trust add" in error.resolution


def test_without_a_certificate_of_the_user_there_is_a_hint(
    server: FakeLxd, conf: Path, notes: Path, certificates: Path, tmp_path: Path
) -> None:
    (tmp_path / "server.crt").write_bytes((certificates / "server.crt").read_bytes())
    configure_lxc(conf, tmp_path, farm=server.url)
    assert "client.crt" in failure("farm", notes).details


def test_other_members_are_noted_and_found_when_the_first_one_is_gone(
    conf: Path, notes: Path, certificates: Path
) -> None:
    with FakeLxd(certificates) as second:
        with FakeLxd(certificates) as first:
            make_cluster({"m1": first, "m2": second})
            configure_lxc(conf, certificates, farm=first.url)
            with open_remote("farm", notes) as remote:
                assert remote.members == {
                    "m1": Address("127.0.0.1", first.port),
                    "m2": Address("127.0.0.1", second.port),
                }
        with open_remote("farm", notes) as remote:
            assert remote.addresses[0] == Address("127.0.0.1", second.port)
            assert ask_locally("/1.0")["metadata"]["auth"] == "trusted"


def test_a_connection_goes_to_another_member_when_the_first_one_has_gone_in_between(
    conf: Path, notes: Path, certificates: Path
) -> None:
    with FakeLxd(certificates) as second:
        with FakeLxd(certificates) as first:
            make_cluster({"m1": first, "m2": second})
            configure_lxc(conf, certificates, farm=first.url)
            way = open_remote("farm", notes)
            way.__enter__()
        try:
            second.asked.clear()
            assert ask_locally("/1.0")["metadata"]["auth"] == "trusted"
            assert second.asked == ["/1.0"]
        finally:
            way.__exit__(None, None, None)


def test_a_failing_lxc_is_explained_by_what_has_happened_on_the_way(
    conf: Path, notes: Path, certificates: Path
) -> None:
    with FakeLxd(certificates) as server:
        configure_lxc(conf, certificates, farm=server.url)
        way = open_remote("farm", notes)
        way.__enter__()
    try:
        with pytest.raises((OSError, HTTPException)):
            ask_locally("/1.0")
        error = explain("Error: EOF", ["list"])
        assert error.brief == "The remote farm cannot be reached."
        assert "refuses" in error.details
    finally:
        way.__exit__(None, None, None)


@pytest.mark.parametrize("content", ["", "{}", '[["h"]]', "[[1, []]]"])
def test_damaged_notes_about_members_are_written_again(
    server: FakeLxd, conf: Path, notes: Path, certificates: Path, content: str
) -> None:
    make_cluster({"m1": server})
    configure_lxc(conf, certificates, farm=server.url)
    notes.mkdir()
    (notes / "farm.json").write_text(content)
    with open_remote("farm", notes):
        assert json.loads((notes / "farm.json").read_text()) == [["127.0.0.1", server.port]]
