import base64
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import oras.client
import pytest
import requests
from package_samples import IDENTITY
from store_samples import STEM, Contract, build, content_of, get, send, site, stems
from store_servers import Server, registry

from slurm_factory.exceptions import ConfigurationError, DownloadError, VerificationError
from slurm_factory.fetch.registry import MANIFEST_TYPE
from slurm_factory.output.reporter import make_reporter
from slurm_factory.stores.fetch import read_index
from slurm_factory.stores.oci import OciStore, tag_of
from slurm_factory.stores.places import open_store, open_to_publish
from slurm_factory.stores.publish import publish
from slurm_factory.stores.store import Seen

NUMBERS = count()
USER = "reader:$2b$05$abcdefghijklmnopqrstuuSi5t5MU9ATKRSnauHSt0KxSk7lEk8iC\n"
"""With the password `se cret` (htpasswd(1))."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def url(server: Server) -> str:
    return f"oci://{server.host}/hpc/packages-{next(NUMBERS)}"


def manifest_of(url: str, tag: str) -> requests.Response:
    host, _, repository = url.removeprefix("oci://").partition("/")
    where = f"http://{host}/v2/{repository}/manifests/{tag}"
    return requests.get(where, headers={"Accept": MANIFEST_TYPE}, timeout=30)


def blob(server: Server, sha256: str) -> Path:
    """The file in which the registry keeps a blob."""
    return server.root / f"docker/registry/v2/blobs/sha256/{sha256[:2]}/{sha256}/data"


def log_in(host: str, password: str) -> None:
    auth = base64.b64encode(f"reader:{password}".encode()).decode()
    path = Path.home() / ".docker/config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


class TestOciStore(Contract):
    @pytest.fixture
    def url(self, server: Server) -> str:
        return f"oci://{server.host}/packages-{next(NUMBERS)}"

    def stored(self, url: str) -> set[str]:
        host, _, repository = url.removeprefix("oci://").partition("/")
        tags = requests.get(f"http://{host}/v2/{repository}/tags/list", timeout=30).json()["tags"]
        return {*tags}


def test_plain_client_of_oras_pulls_all_files(url: str, tmp_path: Path) -> None:
    here = site(tmp_path)
    manifest = build(here)
    send(here, url, manifest)
    client = oras.client.OrasClient(insecure=True)
    client.pull(f"{url.removeprefix('oci://')}:{STEM}", outdir=str(tmp_path / "pulled"))
    assert content_of(tmp_path / "pulled") == content_of(manifest.parent)
    annotations = manifest_of(url, STEM).json()["annotations"]
    assert annotations["org.opencontainers.image.version"] == "25.05.8"
    assert "org.opencontainers.image.created" in annotations


def test_tags_of_others_do_not_matter(url: str, tmp_path: Path) -> None:
    here = site(tmp_path)
    send(here, url, build(here))
    store = open_to_publish(url, here)
    assert isinstance(store, OciStore)
    store._push("theirs", "application/x", store._upload(b"{}", "application/x"), [], {})
    send(here, url, build(here, kind="-gpu"))
    assert stems(here, url) == [STEM, f"{STEM}-gpu"]


def test_index_that_lost_a_package_gets_it_back(url: str, tmp_path: Path) -> None:
    here = site(tmp_path)
    send(here, url, build(here))
    older = manifest_of(url, "index").content
    second = build(here, kind="-gpu")
    send(here, url, second)
    host, _, repository = url.removeprefix("oci://").partition("/")
    where = f"http://{host}/v2/{repository}/manifests/index"
    requests.put(where, older, headers={"Content-Type": MANIFEST_TYPE}, timeout=30)
    assert stems(here, url) == [STEM]
    send(here, url, second)
    assert stems(here, url) == [STEM, f"{STEM}-gpu"]


def test_tampered_blob_is_refused(server: Server, url: str, tmp_path: Path) -> None:
    here, there = site(tmp_path), site(tmp_path, "other")
    send(here, url, build(here, files={"lib/tampered": 12345}))
    package = read_index(open_store(url, here)).packages[0]
    path = blob(server, package.files[0].sha256)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(VerificationError) as error:
        get(there, url)
    assert package.files[0].name in error.value.details
    assert not (there.builds_dir / "25.05").exists()


def test_half_of_an_index_is_a_clear_error(server: Server, url: str, tmp_path: Path) -> None:
    here = site(tmp_path)
    send(here, url, build(here))
    digest = manifest_of(url, "index").json()["layers"][0]["digest"]
    path = blob(server, digest.removeprefix("sha256:"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DownloadError, match="is broken"):
        get(site(tmp_path, "other"), url)


def test_repository_without_packages_is_a_clear_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="There are no packages at"):
        get(site(tmp_path), url)


def test_registry_wants_the_user_of_dockers_configuration(tmp_path: Path) -> None:
    here, there = site(tmp_path), site(tmp_path, "other")
    manifest = build(here)
    with registry(tmp_path / "registry", password_file=USER) as server:
        url = f"oci://{server.host}/x"
        with pytest.raises(DownloadError) as error:
            send(here, url, manifest)
        assert f"docker login {server.host}" in error.value.resolution
        log_in(server.host, "wrong")
        with pytest.raises(DownloadError) as error:
            send(here, url, manifest)
        assert "401" in error.value.details
        log_in(server.host, "se cret")
        send(here, url, manifest)
        assert not get(there, url).up_to_date
        (Path.home() / ".docker/config.json").write_text("{")
        with pytest.raises(ConfigurationError, match="Docker's configuration"):
            get(there, url)


def test_registry_that_deletes_nothing_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = site(tmp_path)
    older, newer = (build(here, r, version=r) for r in ("25.05.7", "25.05.8"))
    with registry(tmp_path / "registry", deletes=False) as server:
        store = open_to_publish(f"oci://{server.host}/x", here)
        with make_reporter() as reporter:
            publish([older], store, here, reporter)
            published = publish([newer], store, here, reporter, keep=1)
        assert published.removed == ()
        assert stems(here, f"oci://{server.host}/x") == ["slurm-25.05.8"]
    assert "does not delete anything" in capsys.readouterr().err


def test_registry_that_has_gone_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = site(tmp_path), site(tmp_path, "other")
    with registry(tmp_path / "registry") as server:
        url = f"oci://{server.host}/x"
        send(here, url, build(here))
        put = OciStore.put

        def end_before(*given: Any) -> None:
            server.end()
            put(*given)

        monkeypatch.setattr(OciStore, "put", end_before)
        with pytest.raises(DownloadError, match="could not be published to") as error:
            send(here, url, build(here, kind="-gpu"))
        assert error.value.exit_code == 4
        with pytest.raises(DownloadError) as error:
            get(there, url)
        assert "No connection" in error.value.details


def test_name_of_a_package_becomes_a_tag() -> None:
    assert tag_of("slurm-24.11.5+deb13u1-debian-12") == "slurm-24.11.5_deb13u1-debian-12"
    with pytest.raises(ConfigurationError, match="too long"):
        tag_of(f"{IDENTITY.stem}{'x' * 128}")


def test_last_of_two_builds_of_one_name_stays(url: str, tmp_path: Path) -> None:
    here, there = site(tmp_path), site(tmp_path, "other")
    send(here, url, build(here, "25.05.7"))
    store = open_to_publish(url, here)
    look = store.index_to_replace
    looks = iter(range(9))

    def after_another() -> Seen:
        # The second look comes after the files are there.
        if next(looks) == 1:
            send(there, url, build(there, "25.05.9"))
        return look()

    store.index_to_replace = after_another  # type: ignore[method-assign]
    with make_reporter(quiet=True) as reporter:
        publish([build(here, "25.05.8")], store, here, reporter)
    assert [e.identity.release for e in read_index(open_store(url, here)).packages] == ["25.05.8"]
    assert manifest_of(url, STEM).json()["annotations"]["org.opencontainers.image.version"] == (
        "25.05.8"
    )
    assert get(site(tmp_path, "third"), url).manifest.identity.release == "25.05.8"
    send(there, url, build(there, kind="-gpu"))
    assert stems(here, url) == [STEM, f"{STEM}-gpu"]


def test_tag_that_moves_while_the_index_is_written_is_seen(url: str, tmp_path: Path) -> None:
    here, there = site(tmp_path), site(tmp_path, "other")
    send(here, url, build(here, "25.05.7"))
    store, other = open_to_publish(url, here), open_to_publish(url, there)
    seen = store.index_to_replace()
    other.replace = lambda *_: True  # type: ignore[method-assign]
    with make_reporter(quiet=True) as reporter:
        publish([build(there, "25.05.9")], other, there, reporter)
    assert seen.content is not None
    assert not store.replace(seen.content, seen)
    healed = store.index_to_replace()
    assert not healed.written
    assert b"25.05.9" in (healed.content or b"")


def test_package_that_was_published_again_is_not_discarded(url: str, tmp_path: Path) -> None:
    here = site(tmp_path)
    send(here, url, build(here))
    store = open_to_publish(url, here)
    package = read_index(store).packages[0]
    store.index_to_replace()
    store.discard(package)
    assert manifest_of(url, STEM).ok
