import json
import os
import platform
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gpg_samples import gpg_home
from store_samples import STEM, Contract, build, content_of, get, send, site

from slurm_factory.exceptions import (
    ConfigurationError,
    DownloadError,
    OutputError,
    VerificationError,
)
from slurm_factory.fetch.http import Body
from slurm_factory.output.reporter import make_reporter
from slurm_factory.package.manifest import File, Verified, load_manifest
from slurm_factory.package.publish import describe
from slurm_factory.stores import fetch as fetching
from slurm_factory.stores.fetch import Wanted, fetch
from slurm_factory.stores.files import FileStore
from slurm_factory.stores.index import StoredPackage, parse_index

Document = dict[str, Any]


class TestFileStore(Contract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/a store"

    def stored(self, url: str) -> set[str]:
        return {path.name for path in Path(url.removeprefix("file://"), "packages").iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store (host) with a package."""
    here = site(tmp_path, "publisher")
    send(here, f"file://{tmp_path}/store", build(here))
    return tmp_path / "store"


def only(store: Path, name: str) -> Path:
    [path] = store.glob(f"packages/*/*/*{name}")
    return path


def rewritten(store: Path, change: Callable[[Document], object]) -> None:
    path = store / "index.json"
    document = json.loads(path.read_text())
    change(document["packages"][0])
    path.write_text(json.dumps(document))


@contextmanager
def unchanged(directory: Path) -> Iterator[None]:
    """Whatever fails, finished builds stay, and nothing else is left."""
    before = content_of(directory / "builds/25.05")
    yield
    assert content_of(directory / "builds/25.05") == before
    assert [*(directory / "work").iterdir()] == []


# --- what a store may say -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["-software.tar.gz", "-manifest.json", ".sha256"])
@pytest.mark.parametrize("same_size", [True, False])
def test_tampered_file_is_refused_and_changes_nothing(
    store: Path, tmp_path: Path, ending: str, same_size: bool
) -> None:
    there = site(tmp_path, "reader")
    build(there, "25.05.7")
    path = only(store, ending)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + (b"?" if same_size else b"?more"))
    with unchanged(there.cache_dir), pytest.raises(VerificationError) as error:
        get(there, f"file://{store}")
    assert path.name in str(error.value)
    assert "Nothing was changed here" in error.value.resolution


def test_file_that_ends_early_is_refused(store: Path, tmp_path: Path) -> None:
    path = only(store, "-module.tar.gz")
    os.truncate(path, 10)
    with pytest.raises(VerificationError, match="what it should be"):
        get(site(tmp_path), f"file://{store}")


def test_index_that_names_tampered_files_does_not_agree_with_the_manifest(
    store: Path, tmp_path: Path
) -> None:
    there = site(tmp_path, "reader")
    build(there, "25.05.7")
    path = only(store, "-software.tar.gz")
    path.write_bytes(b"tampered")
    described = describe(path)

    def tamper(package: Document) -> None:
        for file in package["files"]:
            if file["name"] == path.name:
                file |= {"size": described.size, "sha256": described.sha256}

    rewritten(store, tamper)
    moved = parse_index((store / "index.json").read_bytes(), "").packages[0].directory
    path.parent.rename(store / moved)
    with unchanged(there.cache_dir), pytest.raises(VerificationError) as error:
        get(there, f"file://{store}")
    assert "not the file that the manifest names" in str(error.value)


def test_manifest_of_another_package_is_refused(store: Path, tmp_path: Path) -> None:
    rewritten(store, lambda package: package["identity"].update(release="26.05.1"))
    with pytest.raises(VerificationError, match="what it should be"):
        get(site(tmp_path), f"file://{store}")


def test_verification_that_the_manifest_does_not_have_is_refused(
    store: Path, tmp_path: Path
) -> None:
    rewritten(store, lambda package: package.update(verified_on=["Debian 13"]))
    with pytest.raises(VerificationError) as error:
        get(site(tmp_path), f"file://{store}")
    assert "something else of its verification" in error.value.details


HOSTILE: dict[str, Callable[[Document], object]] = {
    "a path as a name": lambda p: p["manifest"].update(name="../../x"),
    "a file of another kind": lambda p: p["files"][0].update(name=f"{STEM}.sh"),
    "a file twice": lambda p: p["files"].append(p["files"][0]),
    "a negative size": lambda p: p["files"][0].update(size=-1),
    "a size of a year": lambda p: p["files"][0].update(size=1 << 60),
    "a path as a package": lambda p: p["identity"].update(stem="../x"),
    "another name": lambda p: p["identity"].update(stem="x"),
    "a name without end": lambda p: p["identity"].update(stem="slurm-" + "x" * 300),
    "a hidden version": lambda p: p["identity"].update(version="x"),
    "a path as a version": lambda p: p["identity"].update(version="../../25.05"),
    "a glibc without end": lambda p: p.update(glibc="9" * 5000),
    "a release without end": lambda p: p["identity"].update(release="9" * 5000),
    "an advisory without end": lambda p: p.update(advisories=["x" * 5000]),
    "who has signed it": lambda p: p.update(signed_by=["somebody"]),
    "no checksum": lambda p: p["manifest"].update(sha256="abc"),
    "no files": lambda p: p.update(files=[]),
    "a field too many": lambda p: p.update(run="rm -rf /"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=[*HOSTILE])
def test_hostile_entry_of_the_index_is_refused(
    store: Path, tmp_path: Path, change: Callable[[Document], object]
) -> None:
    rewritten(store, change)
    with pytest.raises(DownloadError, match="is broken") as error:
        get(site(tmp_path), f"file://{store}")
    assert error.value.exit_code == 4
    assert len(error.value.details.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an index"),
        (b'{"index_version": 1, "packages": [{"ident', "a part of one"),
        (b"\xff\xfe", "not an index"),
        (b"[" * 100_000, "not an index"),
        (b"[]", "not an index"),
        (b'{"index_version": 1, "packages": 7}', "packages:"),
        (b'{"index_version": 2, "packages": []}', "Another slurm-factory"),
    ],
)
def test_broken_index_is_a_clear_error(
    store: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    (store / "index.json").write_bytes(content)
    with pytest.raises(DownloadError) as error:
        get(site(tmp_path), f"file://{store}")
    assert said in error.value.details
    here = site(tmp_path, "other")
    with pytest.raises(DownloadError):
        send(here, f"file://{store}", build(here))
    assert (store / "index.json").read_bytes() == content


def test_files_that_are_gone_are_looked_for_in_the_new_index_once(
    store: Path, tmp_path: Path
) -> None:
    only(store, "-software.tar.gz").unlink()
    with pytest.raises(DownloadError) as error:
        get(site(tmp_path), f"file://{store}")
    assert f"names files of {STEM} that are not there" in error.value.details


def test_place_without_a_store_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(DownloadError, match="There are no packages at"):
            get(site(tmp_path), f"file://{tmp_path}/{name}")


# --- bad days -----------------------------------------------------------------------------------


def test_package_that_does_not_fit_is_not_begun(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = site(tmp_path, "reader")
    build(there, "25.05.7")
    monkeypatch.setattr(fetching, "_free", lambda _: 100)
    with unchanged(there.cache_dir), pytest.raises(OutputError, match="does not fit") as error:
        get(there, f"file://{store}")
    assert error.value.exit_code == 7


def test_disk_that_becomes_full_is_exit_code_7(store: Path, tmp_path: Path) -> None:
    there = site(tmp_path, "reader")
    build(there, "25.05.7")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with unchanged(there.cache_dir), pytest.raises(OutputError) as error:
            get(there, f"file://{store}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.exit_code == 7


def test_store_that_cannot_be_written_is_exit_code_7(tmp_path: Path) -> None:
    here = site(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as error:
        send(here, f"file://{tmp_path}/file/store", build(here))
    assert error.value.exit_code == 7
    assert "Not a directory" in error.value.details


def test_full_store_keeps_its_index_and_nothing_of_the_package(store: Path, tmp_path: Path) -> None:
    here = site(tmp_path)
    manifest = build(here, "25.05.9")
    before = (store / "index.json").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OutputError):
            send(here, f"file://{store}", manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (store / "index.json").read_bytes() == before
    assert len([*store.glob("packages/*/*")]) == 1


def test_interrupt_leaves_what_was_there(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = site(tmp_path, "reader")
    build(there, "25.05.7")
    look = FileStore.get

    @contextmanager
    def interrupted(self: FileStore, *asked: Any) -> Iterator[Body]:
        with look(self, *asked) as body:
            yield body
        raise KeyboardInterrupt

    monkeypatch.setattr(FileStore, "get", interrupted)
    with (
        unchanged(there.cache_dir),
        make_reporter(quiet=True) as reporter,
        pytest.raises(KeyboardInterrupt),
    ):
        fetch(Wanted(STEM), FileStore(store, "x"), there, reporter)


def test_damaged_package_is_not_published(tmp_path: Path) -> None:
    here = site(tmp_path)
    manifest = build(here)
    (manifest.parent / f"{STEM}-module.tar.gz").write_bytes(b"damaged")
    with pytest.raises(OutputError, match="cannot be published"):
        send(here, f"file://{tmp_path}/store", manifest)
    assert not (tmp_path / "store").exists()


def test_damaged_files_in_the_store_are_replaced(store: Path, tmp_path: Path) -> None:
    only(store, "-software.tar.gz").write_bytes(b"damaged")
    (store / "index.json").unlink()
    here = site(tmp_path)
    send(here, f"file://{store}", build(here))
    assert not get(site(tmp_path, "reader"), f"file://{store}").up_to_date


# --- choosing -----------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a store with packages for machines like this one, which has glibc 2.36."""
    monkeypatch.setattr(fetching, "_glibc_here", lambda: "2.36")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    here = site(tmp_path, "publisher")
    manifests = [
        build(here, "24.11.5", version="24.11"),
        build(here, "25.05.7", version="25.05.7"),
        build(here, "25.05.8", "-new", glibc="2.39"),
        build(here, "25.05.8", "-old", glibc="2.28"),
    ]
    send(here, f"file://{tmp_path}/store", *manifests)
    return f"file://{tmp_path}/store"


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        ("25.05", {}, "slurm-25.05-old"),
        ("slurm-25.05", {}, "slurm-25.05-old"),
        ("25.05.7", {}, "slurm-25.05.7"),
        ("latest", {}, "slurm-25.05-old"),
        ("25.05", {"glibc": "2.39"}, "slurm-25.05-old"),
        ("slurm-25.05-new", {}, "slurm-25.05-new"),
        ("slurm-25.05-new", {"glibc": "2.39"}, "slurm-25.05-new"),
        ("24.11", {"deps": "system", "base": "debian@12"}, "slurm-24.11"),
    ],
)
def test_newest_package_that_fits_is_chosen(
    many: str, tmp_path: Path, name: str, options: dict[str, str], found: str
) -> None:
    assert get(site(tmp_path), many, name, **options).package.stem == found


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("26.05", {}, "none of this release"),
        ("25.05", {"arch": "aarch64"}, "it is for x86_64"),
        ("25.05", {"glibc": "2.17"}, "it needs glibc 2."),
        ("25.05", {"build_type": "gpu"}, "it is standard"),
        ("25.05", {"deps": "spack"}, "it is of system"),
        ("slurm-25.05-new", {"glibc": "2.36"}, "It needs glibc 2.39, and there is 2.36"),
        ("slurm-25.05-new", {"build_type": "gpu"}, "It is standard"),
        ("slurm-25.05-nwe", {}, "Did you mean slurm-25.05-new?"),
        ("../x", {}, "none of a similar name"),
    ],
)
def test_what_the_store_does_not_have_is_said_with_the_reason(
    many: str, tmp_path: Path, name: str, options: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        get(site(tmp_path), many, name, **options)
    assert said in error.value.details


# --- what was done here -------------------------------------------------------------------------


def verified_here(manifest: Path) -> dict[str, bytes]:
    """Verify and sign a package as `verify --sign` does; returns all its files."""
    record = manifest.with_name(f"{STEM}-verification.json")
    record.write_text("{}\n")
    value = Verified(at=datetime.now(UTC), on=("Debian 13",), record=File.of(describe(record)))
    changed = load_manifest(manifest).model_copy(update={"verified": value})
    manifest.write_text(changed.model_dump_json(indent=2))
    manifest.with_name(f"{manifest.name}.asc").write_text("a signature")
    return content_of(manifest.parent)


def test_verification_and_signatures_of_this_machine_stay(store: Path, tmp_path: Path) -> None:
    there = site(tmp_path, "reader")
    before = verified_here(get(there, f"file://{store}").manifest_path)
    fetched = get(there, f"file://{store}")
    assert fetched.up_to_date
    assert content_of(fetched.manifest_path.parent) == before


def test_signature_that_only_the_store_has_arrives(store: Path, tmp_path: Path) -> None:
    here, there = site(tmp_path, "publisher"), site(tmp_path, "reader")
    get(there, f"file://{store}")
    manifest = here.builds_dir / "25.05" / f"{STEM}-manifest.json"
    before = verified_here(manifest)
    send(here, f"file://{store}", manifest)
    assert content_of(get(there, f"file://{store}").manifest_path.parent) == before
    assert get(there, f"file://{store}").up_to_date


def test_package_that_is_here_is_refused_where_signatures_are_required(
    store: Path, tmp_path: Path
) -> None:
    there = site(tmp_path, "reader")
    get(there, f"file://{store}")
    with gpg_home() as keys:
        keys.make_key("Alice <alice@example.org>")
        (tmp_path / "keys.asc").write_text(keys.export())
    strict = there.model_copy(
        update={"trusted_keys": tmp_path / "keys.asc", "require_signature": True}
    )
    with unchanged(there.cache_dir), pytest.raises(VerificationError) as error:
        get(strict, f"file://{store}")
    assert error.value.exit_code == 6


def contradicting(manifest: Path) -> None:
    """Verify a signed package again, without signing it again."""
    verified_here(manifest)
    manifest.with_name(f"{STEM}-verification.json").write_text("{ }\n")


def test_record_that_contradicts_the_manifest_is_not_published(tmp_path: Path) -> None:
    here, there = site(tmp_path, "publisher"), site(tmp_path, "reader")
    manifest = build(here)
    contradicting(manifest)
    url = f"file://{tmp_path}/store"
    send(here, url, manifest)
    assert not [*(tmp_path / "store").rglob("*-verification.json")]
    get(there, url)
    assert get(there, url).up_to_date


def test_record_in_a_store_that_contradicts_the_manifest_is_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = site(tmp_path, "publisher"), site(tmp_path, "reader")
    manifest = build(here)
    contradicting(manifest)
    url = f"file://{tmp_path}/store"
    with monkeypatch.context() as earlier:
        earlier.setattr(StoredPackage, "record_contradicts", lambda *_: False)
        send(here, url, manifest)
    directory = get(there, url).manifest_path.parent
    assert f"{STEM}-verification.json" not in content_of(directory)
    assert f"{STEM}-manifest.json.asc" in content_of(directory)
    assert get(there, url).up_to_date


# --- what publishers do to each other -----------------------------------------------------------


def test_package_that_is_older_than_those_kept_is_not_sent(store: Path, tmp_path: Path) -> None:
    here = site(tmp_path)
    old = build(here, "25.05.7", version="25.05.7", created=datetime(2020, 1, 1, tzinfo=UTC))
    before = content_of(store)
    published = send(here, f"file://{store}", old, keep=1)
    assert [each.stem for each in published.not_kept] == ["slurm-25.05.7"]
    assert (published.added, published.unchanged, published.removed) == ((), (), ())
    assert content_of(store) == before
    assert [path.name for path in (store / "packages").iterdir()] == [STEM]


def test_files_that_the_index_names_again_are_not_removed(store: Path) -> None:
    [package] = parse_index((store / "index.json").read_bytes(), "").packages
    FileStore(store, "x").discard(package)
    assert only(store, "-software.tar.gz").is_file()


def test_files_that_another_publisher_has_removed_come_back(store: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "publisher/builds/25.05" / f"{STEM}-manifest.json"
    shutil.rmtree(store / "packages" / STEM)
    published = send(site(tmp_path, "publisher"), f"file://{store}", manifest)
    assert [each.stem for each in published.unchanged] == [STEM]
    assert not get(site(tmp_path, "reader"), f"file://{store}").up_to_date


def test_what_killed_publishers_have_left_goes_after_an_hour(store: Path, tmp_path: Path) -> None:
    [place] = (store / "packages" / STEM).iterdir()
    for name in (f".old-{place.name}", ".new-x", "0123456789abcdef", "recent"):
        left = place.with_name(name)
        left.mkdir()
        (left / "file").touch()
        if name != "recent":
            os.utime(left / "file", (0, 0))
            os.utime(left, (0, 0))
    manifest = tmp_path / "publisher/builds/25.05" / f"{STEM}-manifest.json"
    send(site(tmp_path, "publisher"), f"file://{store}", manifest)
    assert {path.name for path in place.parent.iterdir()} == {place.name, "recent"}


def test_what_a_killed_removal_has_left_does_not_stop_the_next(store: Path) -> None:
    [package] = parse_index((store / "index.json").read_bytes(), "").packages
    place = store / package.directory
    place.with_name(f".old-{place.name}").mkdir()
    (place.with_name(f".old-{place.name}") / "file").touch()
    (store / "index.json").unlink()
    FileStore(store, "x").discard(package)
    assert not place.parent.exists()


def test_share_that_is_not_mounted_is_not_filled(tmp_path: Path) -> None:
    here = site(tmp_path)
    with pytest.raises(DownloadError) as error:
        send(here, f"file://{tmp_path}/share/packages", build(here))
    assert "is its file system mounted?" in error.value.details
    assert not (tmp_path / "share").exists()
