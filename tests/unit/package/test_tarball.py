"""Tarballs must be the same everywhere, and whole or absent."""

import gzip
import hashlib
import io
import os
import random
import resource
import socket
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from package_samples import EPOCH

from slurm_factory.exceptions import OutputError
from slurm_factory.package.tarball import BLOCK_SIZE, pack


@cache
def contents() -> list[bytes]:
    """Three files of about 1 MB, which can be compressed."""
    generator = random.Random(1)
    words = [generator.randbytes(7) for _ in range(2000)]
    return [b"".join(generator.choices(words, k=150_000)) for _ in range(3)]


def make_tree(tree: Path, names: tuple[str, ...] = ("b", "a", "c")) -> Path:
    """About 3 MB, so that several blocks are compressed at once."""
    (tree / "bin").mkdir(parents=True)
    for name, content in zip(names, contents(), strict=False):
        (tree / "bin" / name).write_bytes(content)
    (tree / "bin" / "program").write_text("#!/bin/sh\n")
    (tree / "bin" / "program").chmod(0o4775)
    (tree / "lib").mkdir()
    (tree / "lib" / "libx.so").symlink_to("../bin/a")
    (tree / "dir-link").symlink_to("lib")
    (tree / "lib" / "ümläut").write_text("x")
    return tree


def packed(tree: Path, destination: Path, threads: int | None = None) -> bytes:
    destination.parent.mkdir(exist_ok=True)
    return pack(tree, destination, top="software", mtime=EPOCH, threads=threads).path.read_bytes()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Every file this process writes ends at `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_number_of_cpus_does_not_change_the_bytes(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    results = {packed(tree, tmp_path / f"{n}.tar.gz", threads=n) for n in (1, 2, 3, 8)}
    assert len(results) == 1
    assert len(gzip.decompress(results.pop())) > 3 * BLOCK_SIZE


def test_owner_times_umask_and_order_of_creation_do_not_change_the_bytes(tmp_path: Path) -> None:
    first = make_tree(tmp_path / "first")
    old_umask = os.umask(0o077)
    try:
        second = make_tree(tmp_path / "second" / "deep")
        # The same random content under the same names, made in another order.
        for name in ("c", "a", "b"):
            (second / "bin" / name).unlink()
            (second / "bin" / name).write_bytes((first / "bin" / name).read_bytes())
    finally:
        os.umask(old_umask)
    os.utime(second / "bin" / "a", (1, 1))
    if os.geteuid() == 0:
        os.chown(second / "bin" / "a", 12345, 12345)
    assert packed(first, tmp_path / "1.tar.gz") == packed(second, tmp_path / "2.tar.gz")


def test_tar_and_gzip_read_what_was_packed(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    artifact = pack(tree, tmp_path / "x.tar.gz", top="software", mtime=EPOCH)
    subprocess.run(["gzip", "--test", artifact.path], check=True)
    listing = subprocess.run(
        ["tar", "--list", "--verbose", "--numeric-owner", "--utc", "--file", artifact.path],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    ).stdout.splitlines()
    assert listing[0].split() == ["drwxr-xr-x", "0/0", "0", "2025-05-07", "00:00", "software/"]
    assert {line.split()[1] for line in listing} == {"0/0"}
    assert {line.split()[3] for line in listing} == {"2025-05-07"}
    names = [line.split(maxsplit=5)[5] for line in listing]
    assert "software/dir-link -> lib" in names
    assert "software/lib/libx.so -> ../bin/a" in names
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "--extract", "--file", artifact.path], cwd=out, check=True)
    subprocess.run(["diff", "--recursive", "--no-dereference", tree, out / "software"], check=True)


def test_setuid_and_group_write_bits_never_reach_the_tarball(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", names=("a",))
    (tree / "lib").chmod(0o2777)
    with tarfile.open(fileobj=io.BytesIO(packed(tree, tmp_path / "x.tar.gz"))) as archive:
        modes = {member.mode for member in archive if not member.issym()}
    assert modes == {0o755, 0o644}


def test_hard_links_stay_links_to_the_first_name(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "z").write_text("content")
    os.link(tree / "z", tree / "a")
    os.link(tree / "z", tmp_path / "outside")
    with tarfile.open(fileobj=io.BytesIO(packed(tree, tmp_path / "x.tar.gz"))) as archive:
        assert archive.getmember("software/a").isreg()
        assert archive.getmember("software/z").linkname == "software/a"


def test_header_and_entries_tell_nothing_about_the_machine(tmp_path: Path) -> None:
    data = packed(make_tree(tmp_path / "tree", names=("a",)), tmp_path / "x.tar.gz")
    assert data[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    content = gzip.decompress(data)
    assert b"atime=" not in content
    assert b"ctime=" not in content
    assert b"mtime=" not in content


def test_returned_size_and_checksum_are_those_of_the_file(tmp_path: Path) -> None:
    artifact = pack(make_tree(tmp_path / "tree"), tmp_path / "x", top="", mtime=EPOCH)
    data = artifact.path.read_bytes()
    assert (artifact.size, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_without_top_the_entries_lie_at_the_root(tmp_path: Path) -> None:
    artifact = pack(make_tree(tmp_path / "tree", ("a",)), tmp_path / "x", top="", mtime=EPOCH)
    with tarfile.open(artifact.path) as archive:
        assert archive.getnames()[:2] == ["bin", "bin/a"]


def test_full_disk_leaves_neither_a_partial_tarball_nor_harms_the_old_one(tmp_path: Path) -> None:
    destination = tmp_path / "out" / "x.tar.gz"
    destination.parent.mkdir()
    destination.write_text("old")
    tree = make_tree(tmp_path / "tree")
    with largest_file(200_000), pytest.raises(OutputError) as caught:
        packed(tree, destination)
    assert caught.value.exit_code == 7
    assert "could not be written" in caught.value.brief
    assert list(destination.parent.iterdir()) == [destination]
    assert destination.read_text() == "old"


def test_missing_directory_is_an_output_error_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"):
        pack(make_tree(tmp_path / "tree", ("a",)), tmp_path / "no" / "x", top="", mtime=EPOCH)


def test_socket_in_the_tree_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/socket")
        with pytest.raises(OutputError, match="socket cannot be packed"):
            packed(Path(short), tmp_path / "out" / "x.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []


def test_tarball_is_no_larger_than_gzips_best(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    data = packed(tree, tmp_path / "x.tar.gz")
    assert len(data) < 1.01 * len(zlib.compress(gzip.decompress(data), 6))
