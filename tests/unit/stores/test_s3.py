from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest
from store_samples import Contract, build, get, send, site
from store_servers import Server, bucket, s3_environment, s3_server

from slurm_factory.exceptions import DownloadError, VerificationError
from slurm_factory.fetch import bucket as buckets
from slurm_factory.stores import s3
from slurm_factory.stores.fetch import read_index
from slurm_factory.stores.places import open_store, open_to_publish

NUMBERS = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(autouse=True)
def _user(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_environment(server).items():
        monkeypatch.setenv(name, value)


class TestS3Store(Contract):
    @pytest.fixture
    def url(self, server: Server) -> str:
        name = f"bucket-{next(NUMBERS)}"
        bucket(server, name)
        return f"s3://{name}/a/b+c"

    def stored(self, url: str) -> set[str]:
        paths = [item["path"] for page in obstore.list(contents(url)) for item in page]
        return {path.split("/")[3] for path in paths if "/packages/" in path}


@pytest.fixture
def url(server: Server) -> str:
    name = f"bucket-{next(NUMBERS)}"
    bucket(server, name)
    return f"s3://{name}"


def contents(url: str) -> obstore.store.S3Store:
    return obstore.store.S3Store(urlsplit(url).netloc, client_options={"allow_http": True})


def test_wrong_key_is_one_clear_error(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = site(tmp_path)
    send(here, url, build(here))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    manifest = build(here)
    for action in (lambda: get(here, url), lambda: send(here, url, manifest)):
        with pytest.raises(DownloadError) as error:
            action()
        assert error.value.details == "403 Forbidden (SignatureDoesNotMatch)."
        assert "AWS_SECRET_ACCESS_KEY" in error.value.resolution
        assert "wrong" not in str(error.value)


def test_missing_bucket_is_one_clear_error(tmp_path: Path) -> None:
    here = site(tmp_path)
    with pytest.raises(DownloadError, match="There are no packages at"):
        get(here, "s3://no-such-bucket")
    with pytest.raises(DownloadError) as error:
        send(here, "s3://no-such-bucket", build(here))
    assert "no such bucket" in error.value.details


def test_tampered_object_is_refused(url: str, tmp_path: Path) -> None:
    here, there = site(tmp_path), site(tmp_path, "other")
    send(here, url, build(here))
    package = read_index(open_store(url, here)).packages[0]
    file = package.files[0]
    path = f"{package.directory}/{file.name}"
    obstore.put(contents(url), path, bytes(file.size))
    with pytest.raises(VerificationError) as error:
        get(there, url)
    assert file.name in error.value.details


def test_half_of_an_index_is_a_clear_error(url: str, tmp_path: Path) -> None:
    here = site(tmp_path)
    send(here, url, build(here))
    whole = bytes(obstore.get(contents(url), "index.json").bytes())
    obstore.put(contents(url), "index.json", whole[: len(whole) // 2])
    with pytest.raises(DownloadError, match="is broken"):
        get(site(tmp_path, "other"), url)


def test_server_that_is_not_there_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(buckets, "RETRIES", 0)
    with pytest.raises(DownloadError) as error:
        get(site(tmp_path), "s3://bucket/x")
    assert error.value.exit_code == 4
    assert len(str(error.value).splitlines()) == 3


def test_index_that_others_have_replaced_stays(url: str, tmp_path: Path) -> None:
    here = site(tmp_path)
    store = open_to_publish(url, here)
    seen = store.index_to_replace()
    assert store.replace(b"first", seen)
    assert not store.replace(b"second", seen)
    other = store.index_to_replace()
    assert store.replace(b"third", other)
    assert not store.replace(b"fourth", other)
    assert store.index().content == b"third"


def test_removal_spares_what_the_index_names(url: str, tmp_path: Path) -> None:
    here = site(tmp_path)
    send(here, url, build(here))
    [package] = read_index(open_store(url, here)).packages
    open_to_publish(url, here).discard(package)
    assert not get(site(tmp_path, "reader"), url).up_to_date


def test_what_killed_publishers_have_left_goes_when_it_is_old(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = site(tmp_path)
    manifest = build(here)
    left = "packages/slurm-25.05/0123456789abcdef/file"
    obstore.put(contents(url), left, b"x")
    send(here, url, manifest)
    assert obstore.head(contents(url), left)["size"] == 1
    monkeypatch.setattr(s3, "STALE", 0.001)
    send(here, url, manifest)
    with pytest.raises(FileNotFoundError):
        obstore.head(contents(url), left)
    assert not get(site(tmp_path, "reader"), url).up_to_date
