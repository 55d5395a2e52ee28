"""Streams of a program that nobody trusts: what is accepted, and every way to be refused."""

import gzip
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_factory.exceptions import OutputError, VerificationError
from slurm_factory.util.tar_stream import (
    LARGEST_READ,
    LONGEST_PATH,
    TAR,
    StreamEndedError,
    list_tarball,
    unpack,
    unpack_tarball,
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def tar_of(directory: Path) -> BytesIO:
    """What an honest instance sends."""
    command = [*TAR, f"--directory={directory}", "."]
    return BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **changes: int) -> bytes:
    """The header of a member as a hostile instance may write it."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755
    for key, value in changes.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT)


DIRECTORY = member(".", tarfile.DIRTYPE)
END = bytes(2 * tarfile.BLOCKSIZE)


def stream(*headers: bytes) -> BytesIO:
    return BytesIO(b"".join((DIRECTORY, *headers, END)))


def test_honest_tree_arrives_whole(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "empty").mkdir()
    program = tree / "bin/program"
    program.write_bytes(os.urandom(3 << 20))
    program.chmod(0o755)
    (tree / "text").write_text("text")
    (tree / "text").chmod(0o600)
    os.link(program, tree / "bin/same")
    (tree / "bin/link").symlink_to("../text")
    (tree / ("d" * 90)).mkdir()
    (tree / ("d" * 90) / ("e" * 90)).write_text("a long name")
    unpack(tar_of(tree), tmp_path / "taken", links=True)
    taken = tmp_path / "taken"
    assert (taken / "bin/program").read_bytes() == program.read_bytes()
    assert (taken / "bin/same").samefile(taken / "bin/program")
    assert (taken / "bin/link").readlink() == Path("../text")
    assert (taken / ("d" * 90) / ("e" * 90)).read_text() == "a long name"
    assert stat.S_IMODE((taken / "bin/program").stat().st_mode) == 0o755
    assert stat.S_IMODE((taken / "text").stat().st_mode) == 0o644
    assert names(taken) == names(tree)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "tree/bin").mkdir(parents=True)
    before = os.umask(umask)
    try:
        unpack(tar_of(tmp_path / "tree"), tmp_path / "taken")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "taken").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "taken/bin").stat().st_mode) == 0o755


REFUSED = {
    "absolute name": ([member("/etc/evil")], "/etc/evil is outside"),
    "name above": ([member("a/../../evil")], "is outside"),
    "parent is missing": ([member("a/b")], "not a directory"),
    "parent is a file": ([member("a"), member("a/b")], "not a directory"),
    "parent is a link": ([member("a", tarfile.SYMTYPE, "."), member("a/b")], "not a directory"),
    "twice": ([member("a"), member("./a")], "comes twice"),
    "file over a link": ([member("a", tarfile.SYMTYPE, "b"), member("a")], "comes twice"),
    "the directory itself is a file": ([member(".")], "comes twice"),
    "absolute link": ([member("a", tarfile.SYMTYPE, "/etc/passwd")], "a is a link to /etc/passwd"),
    "link above": ([member("a", tarfile.SYMTYPE, "../evil")], "outside the directory"),
    "link through a link": (
        [
            member("d", tarfile.DIRTYPE),
            member("d/up", tarfile.SYMTYPE, ".."),
            member("e", tarfile.SYMTYPE, "d/up/../evil"),
        ],
        "leads outside",
    ),
    "hard link to the host": ([member("a", tarfile.LNKTYPE, "/etc/passwd")], "no file before it"),
    "hard link above": ([member("a", tarfile.LNKTYPE, "../x")], "no file before it"),
    "hard link to a link": (
        [member("l", tarfile.SYMTYPE, "f"), member("a", tarfile.LNKTYPE, "l")],
        "no file before it",
    ),
    "device": ([member("a", tarfile.BLKTYPE)], "neither a file"),
    "character device": ([member("a", tarfile.CHRTYPE)], "neither a file"),
    "pipe": ([member("a", tarfile.FIFOTYPE)], "neither a file"),
    "long name of GNU": ([member("a", tarfile.GNUTYPE_LONGNAME)], "neither a file"),
    "extended header": ([member("a", tarfile.XHDTYPE, size=1 << 40)], "neither a file"),
    "setuid": ([member("a", mode=0o4755)], "setuid"),
    "setgid": ([member("a", mode=0o2755)], "setuid or setgid"),
    "link with content": ([member("a", tarfile.SYMTYPE, "b", size=512)], "has content"),
    "huge file": ([member("a", size=1 << 33 | 1 << 32)], "impossible size"),
    "cut short": ([member("a", size=1 << 20)], "cut short in a"),
    "no tar": ([b"x" * 512], "damaged"),
}


@pytest.mark.parametrize(("headers", "why"), REFUSED.values(), ids=REFUSED)
def test_what_no_honest_build_makes_is_refused_and_nothing_outside_is_touched(
    tmp_path: Path, headers: list[bytes], why: str
) -> None:
    (tmp_path / "room").mkdir()
    with pytest.raises(VerificationError, match=why):
        unpack(stream(*headers), tmp_path / "room/taken", links=True)
    assert names(tmp_path) == ["room"]
    assert names(tmp_path / "room") == ["taken"]


def test_size_below_zero_is_refused(tmp_path: Path) -> None:
    negative = bytearray(member("a"))
    negative[124:136] = b"\xff" * 12
    negative[148:156] = b" " * 8
    negative[148:156] = b"%06o\0 " % sum(negative)
    with pytest.raises(VerificationError, match="impossible size"):
        unpack(stream(bytes(negative)), tmp_path / "taken")


def test_group_bit_of_a_directory_is_dropped(tmp_path: Path) -> None:
    unpack(stream(member("a", tarfile.DIRTYPE, mode=0o2775)), tmp_path / "taken")
    assert stat.S_IMODE((tmp_path / "taken/a").stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_refused_where_none_are_expected(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(VerificationError, match="b is a link"):
        unpack(stream(member("a"), member("b", kind, "a")), tmp_path / "taken")


def test_stream_without_end_and_stream_that_stops_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StreamEndedError, match="cut short"):
        unpack(BytesIO(DIRECTORY), tmp_path / "stops")
    with pytest.raises(VerificationError, match="does not end"):
        unpack(BytesIO(DIRECTORY + END + bytes(4 << 20)), tmp_path / "endless")


def test_too_many_members_and_too_many_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="more than 3 files"):
        unpack(stream(*(member(str(n)) for n in range(3))), tmp_path / "many", members=3)
    content = member("a", size=512) + bytes(512)
    with pytest.raises(VerificationError, match="impossible size"):
        unpack(stream(content), tmp_path / "large", largest=511)


def test_control_characters_of_a_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        unpack(stream(member("\x1b[2J", mode=0o4755)), tmp_path / "taken")
    assert "\x1b" not in caught.value.details


def test_directory_that_cannot_be_written_is_reported_as_that(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"):
        unpack(stream(), tmp_path / "missing/taken")


def mutated(draw: Callable[[st.SearchStrategy[int]], int]) -> bytes:
    content = bytearray(stream(member("a", size=5) + b"hello".ljust(512, b"\0")).getvalue())
    for _ in range(draw(st.integers(1, 6))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))])


@settings(max_examples=300, deadline=None)
@given(st.composite(mutated)())
def test_any_stream_is_unpacked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    room = tmp_path_factory.mktemp("room")
    with suppress(VerificationError, OutputError):
        unpack(BytesIO(content), room / "taken", links=True)
    assert names(room) == ["taken"]


# --- tarballs that anybody may have made ----------------------------------------------------------


def tarball(path: Path, *parts: bytes) -> Path:
    with gzip.open(path, "wb") as file:
        file.write(b"".join(parts))
        file.write(END)
    return path


def extension(content: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return member("x", kind, size=len(content)) + content + bytes(-len(content) % 512)


def pax(key: str, value: str) -> bytes:
    record = f" {key}={value}\n".encode()
    length = len(record)
    while len(str(length)) + len(record) != length:
        length = len(str(length)) + len(record)
    return f"{length}".encode() + record


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tarball_of_any_honest_program_arrives_whole(tmp_path: Path, form: int) -> None:
    made = tmp_path / "made/software"
    long = made / "/".join(["a-long-directory"] * 5)
    long.mkdir(parents=True)
    (long / f"naïve-{'n' * 80}").write_text("content")
    (made / "link").symlink_to(Path(*["a-long-directory"] * 5) / f"naïve-{'n' * 80}")
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz", format=form) as archive:
        archive.add(made, "software")
    unpack_tarball(tmp_path / "made.tar.gz", tmp_path / "taken")
    assert (tmp_path / "taken/software/link").read_text() == "content"


def test_tarball_of_git_has_a_comment_for_all_members(tmp_path: Path) -> None:
    comment = extension(pax("comment", "0" * 40), tarfile.XGLTYPE)
    unpack_tarball(tarball(tmp_path / "a.tar.gz", comment, member("a")), tmp_path / "taken")
    assert names(tmp_path / "taken") == ["a"]


LONG = "n" * 300
BOMBS = {
    "large header": ([member("x", tarfile.XHDTYPE, size=1 << 20)], "impossible size"),
    "size below zero": ([member("x", tarfile.XHDTYPE)[:124] + b"\xff" * 12], "damaged|impossible"),
    "chain of headers": ([extension(pax("path", "b"))] * 5, "too many extended headers"),
    "sparse map": ([extension(pax("GNU.sparse.major", "1"))], "changes the size"),
    "other size": ([extension(pax("size", "99999999999999"))], "changes the size"),
    "sparse member": ([member("a", tarfile.GNUTYPE_SPARSE)], "neither a file"),
    "record beyond the header": ([extension(b"999 path=a\n")], "damaged"),
    "record of nothing": ([extension(b"0 path=a\n")], "damaged"),
    "long name outside": (
        [extension(f"../{LONG}".encode(), tarfile.GNUTYPE_LONGNAME), member("a")],
        "outside the directory",
    ),
    "link outside": (
        [extension(pax("linkpath", f"/{LONG}")), member("a", tarfile.SYMTYPE, "b")],
        "outside the directory",
    ),
    "deep": (
        [member("/".join(["d"] * depth), tarfile.DIRTYPE) for depth in range(1, 70)],
        "too deep",
    ),
    "huge file": ([member("a", size=(1 << 30) + 1)], "impossible size"),
    "no tar": ([b"x" * 512], "damaged"),
}


@pytest.mark.parametrize(("parts", "why"), BOMBS.values(), ids=BOMBS)
def test_tarball_that_would_harm_this_machine_is_refused(
    tmp_path: Path, parts: list[bytes], why: str
) -> None:
    (tmp_path / "room").mkdir()
    packed = tarball(tmp_path / "bomb.tar.gz", *parts)
    with pytest.raises(VerificationError, match=why):
        unpack_tarball(packed, tmp_path / "room/taken")
    assert names(tmp_path / "room") == ["taken"]


def test_file_that_is_not_compressed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.tar.gz").write_bytes(DIRECTORY + END)
    with pytest.raises(VerificationError, match="not compressed by gzip"):
        unpack_tarball(tmp_path / "plain.tar.gz", tmp_path / "taken")


# --- only listed ----------------------------------------------------------------------------------


def tarball_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(content))
    return path


def test_a_tarball_is_listed_as_it_would_be_unpacked(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/program").write_bytes(bytes(3 << 20))
    (tree / "bin/link").symlink_to("program")
    os.link(tree / "bin/program", tree / "bin/same")
    (tree / ("d" * 90)).mkdir()
    (tree / ("d" * 90) / ("e" * 120)).write_text("long")
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.add(tree, ".")
    sizes, contents = list_tarball(path, (f"{'d' * 90}/{'e' * 120}", "bin", "none"))
    assert sizes == {
        "bin/link": 0,
        "bin/program": 3 << 20,
        "bin/same": 0,
        f"{'d' * 90}/{'e' * 120}": 4,
    }
    assert contents == {f"{'d' * 90}/{'e' * 120}": b"long"}
    unpack_tarball(path, tmp_path / "taken")
    taken = {str(each.relative_to(tmp_path / "taken")) for each in (tmp_path / "taken").rglob("*")}
    assert sizes.keys() <= taken


def test_a_large_file_is_listed_and_not_read(tmp_path: Path) -> None:
    size = LARGEST_READ + 1
    path = tarball_of(tmp_path, DIRECTORY + member("x", size=size) + bytes(size + 511) + END)
    assert list_tarball(path, ("x",)) == ({"x": size}, {})


@pytest.mark.parametrize(
    "headers",
    [
        (member("../x"),),
        (member("x"), member("x")),
        (member("x", tarfile.FIFOTYPE),),
        (member("x", tarfile.SYMTYPE, "/etc/passwd"),),
        (member("x", size=1 << 40),),
        (member("x", size=1000),),
        (member("x" * (LONGEST_PATH + 1)),),
    ],
    ids=["outside", "twice", "fifo", "link", "huge", "cut short", "long name"],
)
def test_a_tarball_that_would_not_be_unpacked_is_not_listed(
    tmp_path: Path, headers: tuple[bytes, ...]
) -> None:
    path = tarball_of(tmp_path, stream(*headers).getvalue())
    with pytest.raises(VerificationError):
        list_tarball(path)


def test_more_names_than_fit_into_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm_factory.util.tar_stream.MOST_LISTED", 3)
    path = tarball_of(tmp_path, stream(*(member(f"{number}") for number in range(3))).getvalue())
    with pytest.raises(VerificationError, match="refused"):
        list_tarball(path)


def test_a_tarball_that_cannot_be_read_is_an_error_of_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        list_tarball(tmp_path / "none.tar.gz")
