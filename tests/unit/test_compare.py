"""Two packages side by side, one of which may be anybody's."""

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import pytest
from package_samples import CURL, ZLIB, publish_package
from plan_samples import sample_settings
from reporter_samples import Listener

from slurm_factory.compare import Change, Comparison, Lookup, compare
from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError, OutputError, VerificationError
from slurm_factory.package.manifest import SecurityStatus

OLD = {"bin/srun": 1000, "lib/private/libz-0a1b2c3d.so.1": 900, "lib/slurm/libslurm.so.42": 10}
NEW = {"bin/srun": 1200, "lib/private/libz-ffffffff.so.1": 900, "lib/slurm/libslurm.so.43": 10}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache")


@pytest.fixture
def old(settings: Settings) -> Path:
    builds = settings.builds_dir
    features = ("munge", "restd")
    return publish_package(builds / "24.11", "24.11.5", files=OLD, features=features)


@pytest.fixture
def new(settings: Settings) -> Path:
    fixed = SecurityStatus(advisories=(), fixed=("CVE-2026-65107",), support_ends=None)
    return publish_package(
        settings.builds_dir / "24.11.6",
        "24.11.6",
        files=NEW,
        features=("munge", "pmix"),
        bundled=(CURL.model_copy(update={"package_version": "8.0"}),),
        glibc="2.28",
        security=fixed,
    )


def compared(settings: Settings, *words: str, lookup: Lookup | None = None) -> Comparison:
    return compare(words, settings, Listener(), lookup or Lookup())


def software(manifest: Path) -> Path:
    return manifest.with_name(manifest.name.replace("-manifest.json", "-software.tar.gz"))


@pytest.mark.usefixtures("old", "new")
def test_what_two_packages_do_not_have_in_common_is_found(settings: Settings) -> None:
    found = compared(settings, "slurm-24.11", "slurm-24.11.6")
    assert found.features == (Change("pmix", None, "pmix"), Change("restd", "restd", None))
    assert found.components == (
        Change("curl", (CURL.package_version,), ("8.0",)),
        Change("zlib", (ZLIB.package_version,), None),
    )
    assert found.advisories
    (fixed,) = found.advisories
    assert (fixed.name, fixed.b) == ("CVE-2026-65107", None)
    assert found.files is not None
    identity = "share/slurm-factory.json"
    assert [each for each in found.files if each.name != identity] == [
        Change("bin/srun", 1000, 1200),
        Change("lib/slurm/libslurm.so.42", 10, None),
        Change("lib/slurm/libslurm.so.43", None, 10),
    ]


def test_a_library_that_was_only_compiled_again_is_no_other_file(
    settings: Settings, old: Path, new: Path
) -> None:
    """Its tag differs, its name and its size do not."""
    found = compared(settings, str(old), str(new))
    assert found.a.files is not None
    assert "lib/private/libz.so.1" in found.a.files
    assert "libz" not in str(found.files)


def test_two_libraries_of_one_name_keep_their_tags(settings: Settings) -> None:
    files = {f"lib/private/libz-{tag * 8}.so.1": 1 for tag in "ab"}
    path = publish_package(settings.builds_dir / "24.11", "24.11.5", files=files)
    found = compared(settings, str(path), str(path))
    assert found.a.files is not None
    assert files.keys() <= found.a.files.keys()


def test_a_package_is_the_same_as_itself(settings: Settings, old: Path) -> None:
    found = compared(settings, str(old), str(software(old)))
    assert found.a == found.b
    same = (found.features, found.components, found.advisories, found.files)
    assert same == ((), (), (), ())


def test_manifests_alone_tell_all_but_the_files(
    settings: Settings, old: Path, new: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "elsewhere.json"
    shutil.copy(old, alone)
    found = compared(settings, str(alone), str(new))
    assert found.features
    assert found.components
    assert found.a.size > 0
    assert (found.files, found.a.files, found.a.unpacked) == (None, None, None)
    assert found.b.files


def test_a_tarball_alone_tells_what_it_is_and_its_files(
    settings: Settings, old: Path, new: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "some.tar.gz"
    shutil.copy(software(old), alone)
    found = compared(settings, str(alone), str(new))
    assert found.a.identity
    assert (found.a.name, found.a.identity.release) == ("slurm-24.11", "24.11.5")
    assert (found.features, found.components, found.advisories) == (None, None, None)
    assert found.files


def test_advisories_of_libraries_are_compared_where_they_are_looked_up(
    tmp_path: Path, old: Path, new: Path
) -> None:
    tracker = tmp_path / "tracker.json"
    tracker.write_text('{"zlib": {"CVE-1": {"releases": {"bookworm": {"status": "open"}}}}}')
    settings = sample_settings(tmp_path / "cache", debian_tracker=str(tracker))
    found = compared(settings, str(old), str(new), lookup=Lookup(libraries=True))
    assert Change("CVE-1", "in zlib", None) in (found.advisories or ())


def test_a_tarball_that_does_not_belong_to_its_manifest_is_refused(
    settings: Settings, old: Path, new: Path
) -> None:
    shutil.copy(software(new), software(old))
    with pytest.raises(VerificationError, match="does not match its manifest"):
        compared(settings, str(old), str(new))


def hostile(path: Path, *members: tuple[str, bytes, str]) -> str:
    """A tarball of members with their kinds and where they lead to, as anybody may make it."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info)
    path.write_bytes(gzip.compress(raw.getvalue()))
    return str(path)


TOP = ("software", tarfile.DIRTYPE, "")


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("/etc/passwd", tarfile.REGTYPE, ""),
        ("software/x", tarfile.SYMTYPE, "../../../etc/passwd"),
        ("software/x", tarfile.CHRTYPE, ""),
        ("software/x", tarfile.LNKTYPE, "/etc/passwd"),
    ],
)
def test_a_hostile_tarball_is_refused_and_leaves_nothing(
    settings: Settings, old: Path, tmp_path: Path, member: tuple[str, bytes, str]
) -> None:
    directory = tmp_path / "theirs"
    directory.mkdir()
    word = hostile(directory / "x.tar.gz", TOP, member)
    with pytest.raises(VerificationError) as caught:
        compared(settings, word, str(old))
    assert word in caught.value.brief
    assert [path.name for path in directory.iterdir()] == ["x.tar.gz"]


def test_what_a_strange_tree_says_about_itself_is_not_believed(
    settings: Settings, old: Path, tmp_path: Path
) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name in ("software", "software/share"):
            directory = tarfile.TarInfo(name)
            directory.type = tarfile.DIRTYPE
            archive.addfile(directory)
        text = b'{"release": "$(id)"}'
        info = tarfile.TarInfo("software/share/slurm-factory.json")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(raw.getvalue()))
    found = compared(settings, str(path), str(old))
    assert (found.a.identity, found.a.name) == (None, "x.tgz")


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no archive")],
    ids=["empty", "text", "compressed text"],
)
def test_what_is_no_tarball_is_refused(
    settings: Settings, old: Path, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(VerificationError):
        compared(settings, str(path), str(old))


def test_an_unknown_package_and_a_damaged_manifest_are_reported(
    settings: Settings, old: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"slurm-24\.1'"):
        compared(settings, "slurm-24.1", str(old))
    for word, why in ((f"{tmp_path}/none/slurm-24.11", "No such file"), ("/dev/zero", "neither")):
        with pytest.raises(ConfigurationError, match=why):
            compared(settings, word, str(old))
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(OutputError, match="cannot be used"):
        compared(settings, str(tmp_path / "x.json"), str(old))
