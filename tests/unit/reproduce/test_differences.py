"""What differs between two tarballs, either of which may be anybody's."""

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from slurm_factory.exceptions import VerificationError
from slurm_factory.reproduce import differences
from slurm_factory.reproduce.differences import Difference, What, compare_tarballs

FILES = {"software/bin/srun": b"\0one", "software/etc/a.conf": b"a = 1\n"}


def write(path: Path, files: dict[str, bytes], **changes: Any) -> Path:
    """A tarball; `changes` are those of the member bin/srun."""
    gzip_time = changes.pop("gzip_time", 0)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=changes.pop("format", 1)) as archive:
        for directory in ("software", "software/bin", "software/etc"):
            member = tarfile.TarInfo(directory)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o755, 100
            if name == "software/bin/srun":
                for key, value in changes.items():
                    setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    path.write_bytes(gzip.compress(plain.getvalue(), mtime=gzip_time))
    return path


def compared(tmp_path: Path, files: dict[str, bytes], **changes: Any) -> list[Difference]:
    """What differs between the sample and another tarball."""
    ours = write(tmp_path / "a.tar.gz", FILES)
    theirs = write(tmp_path / "b.tar.gz", files, **changes)
    return list(compare_tarballs(ours, theirs).differences)


def test_one_byte_is_named(tmp_path: Path) -> None:
    found = compared(tmp_path, FILES | {"software/bin/srun": b"\0onE"})
    place = "first at byte 3 of 4"
    assert found == [Difference("software/bin/srun", What.CONTENT, place)]


@pytest.mark.parametrize(
    ("changes", "what", "detail"),
    [
        ({"mode": 0o644}, What.MODE, "0755 → 0644"),
        ({"mtime": 7}, What.TIME, "100 → 7"),
        ({"uid": 7, "uname": "eve"}, What.OWNER, "(0):(0) → eve(7):(0)"),
        (
            {"type": tarfile.SYMTYPE, "linkname": "../etc/a.conf", "size": 0},
            What.KIND,
            "file → link",
        ),
    ],
)
def test_headers_are_named(
    tmp_path: Path, changes: dict[str, Any], what: What, detail: str
) -> None:
    assert Difference("software/bin/srun", what, detail) in compared(tmp_path, FILES, **changes)


def test_files_of_one_side_are_named(tmp_path: Path) -> None:
    more = {"software/bin/srun": b"\0one", "software/bin/backdoor": b"x"}
    assert compared(tmp_path, more) == [
        Difference("software/etc/a.conf", What.ONLY_IN_PACKAGE, "file"),
        Difference("software/bin/backdoor", What.ONLY_BUILT, "file"),
    ]


def test_another_link_is_named(tmp_path: Path) -> None:
    link = {"type": tarfile.SYMTYPE, "size": 0}
    ours = write(tmp_path / "a.tar.gz", FILES, **link, linkname="../etc")
    theirs = write(tmp_path / "b.tar.gz", FILES, **link, linkname="../etc/a.conf")
    (found,) = compare_tarballs(ours, theirs).differences
    assert found == Difference("software/bin/srun", What.LINK, "../etc → ../etc/a.conf")


@pytest.mark.parametrize(
    ("files", "changes", "reason"),
    [
        (FILES, {"gzip_time": 5}, "compressed in another way"),
        (FILES, {"format": tarfile.USTAR_FORMAT}, "other headers of tar"),
        (dict(reversed(FILES.items())), {}, "another order"),
    ],
)
def test_archives_of_the_same_files_are_explained(
    tmp_path: Path, files: dict[str, bytes], changes: dict[str, Any], reason: str
) -> None:
    (found,) = compared(tmp_path, files, **changes)
    assert (found.path, found.what) == ("", What.ARCHIVE)
    assert reason in found.detail


def test_too_much_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "MOST_LOOKED_INTO", 8)
    found = compared(tmp_path, {"software/bin/srun": b"\0two", "software/etc/a.conf": b"a = 2\n"})
    assert [each.detail for each in found] == [
        "first at byte 1 of 4",
        "6 and 6 bytes; too much differs to look into each file",
    ]


def test_names_are_fit_for_a_terminal(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, FILES | {"software/bin/\x1b[2J": b"x"})
    assert found.path == "software/bin/\\x1b[2J"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../outside"},
        {"type": tarfile.FIFOTYPE, "size": 0},
        {"mode": 0o4755},
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0},
    ],
)
def test_hostile_archives_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        compared(tmp_path, FILES, **changes)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    ours, theirs = write(tmp_path / "a.tar.gz", FILES), tmp_path / "b.tar.gz"
    for content in (b"", b"no archive", ours.read_bytes()[:-20]):
        theirs.write_bytes(content)
        with pytest.raises(VerificationError):
            compare_tarballs(ours, theirs)
