"""Files may contain anything: errors without a traceback or a hang."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from package_samples import stage
from plan_samples import sample_plan

from slurm_factory.buildcaches.layout import ENTRIES, ENTRY, INDEX
from slurm_factory.package.publish import find_artifacts, publish
from slurm_factory.plan.base_setup import load_record, record_path
from slurm_factory.recipes.spack.cache import index_is_current
from slurm_factory.recipes.spack.lock import load_lock, read_lock
from slurm_factory.util import documents
from slurm_factory.util.documents import parse_json, read_bytes, read_json, read_text

PATIENCE = 20
SETUP = sample_plan().setup


class HangError(Exception):
    """Not one that the program expects, as TimeoutError is."""


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Opening a pipe that nobody writes to would end the test run otherwise."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def pipe(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def loop(path: Path) -> None:
    path.symlink_to(path)


def deep(path: Path) -> None:
    path.write_text('{"a":' * 5000 + "1" + "}" * 5000)


def deep_lists(path: Path) -> None:
    path.write_text(nested(900))


def bytes_only(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


ODD = (pipe, directory, link_to_a_pipe, loop, deep, deep_lists, bytes_only, sparse)
Make = Callable[[Path], None]


@pytest.fixture(params=ODD, ids=lambda make: make.__name__)
def odd(request: pytest.FixtureRequest) -> Make:
    make: Make = request.param
    return make


def test_a_document_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"ä": [1, 2.5, null, true]}')
    assert read_json(tmp_path / "x") == {"ä": [1, 2.5, None, True]}
    assert read_text(tmp_path / "x").encode() == read_bytes(tmp_path / "x")


@pytest.mark.parametrize("text", ["", "{", "[1,]", nested(1000), nested(100_000), '"\\ud800"'])
def test_what_is_not_a_document_is_a_value_error_of_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Invalid JSON: [^\n]+$"):
        parse_json(text)


def test_what_is_odd_is_an_error_that_is_expected(tmp_path: Path, odd: Make) -> None:
    odd(tmp_path / "x")
    with pytest.raises((OSError, ValueError)):
        read_json(tmp_path / "x")


def test_a_file_that_is_larger_than_any_of_ours_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "LARGEST", 3)
    (tmp_path / "x").write_text("1234")
    with pytest.raises(OSError, match="File too large"):
        read_bytes(tmp_path / "x")


def test_an_odd_manifest_is_listed_with_its_problem(tmp_path: Path, odd: Make) -> None:
    publish(stage(tmp_path / "work"), tmp_path / "builds/24.11")
    odd(tmp_path / "builds/24.11/slurm-a-manifest.json")
    problems = [found.problem for found in find_artifacts(tmp_path / "builds")]
    assert problems[0] == ""
    assert problems[1].endswith(".")


def test_an_odd_tarball_does_not_match_its_manifest(tmp_path: Path, odd: Make) -> None:
    path = publish(stage(tmp_path / "work"), tmp_path / "builds/24.11")
    tarball = next(path.parent.glob("*-software.tar.gz"))
    tarball.unlink()
    odd(tarball)
    (found,) = find_artifacts(tmp_path / "builds")
    assert tarball.name in found.problem


def test_an_odd_record_of_a_base_counts_as_none(tmp_path: Path, odd: Make) -> None:
    odd(record_path(SETUP, tmp_path))
    assert load_record(SETUP, tmp_path) is None


def test_an_odd_lock_of_spack_counts_as_none(tmp_path: Path, odd: Make) -> None:
    odd(tmp_path / "x")
    assert load_lock(tmp_path / "x") is None


def test_an_odd_index_of_a_build_cache_counts_as_old(tmp_path: Path, odd: Make) -> None:
    entry = tmp_path / ENTRIES / f"zlib/zlib-1-abc{ENTRY}"
    entry.parent.mkdir(parents=True)
    entry.touch()
    index = tmp_path / INDEX
    index.parent.mkdir(parents=True)
    odd(index)
    assert not index_is_current(tmp_path)


@pytest.mark.parametrize("text", [nested(5000), '{"roots": 1, "concrete_specs": {}}', "[]", "1"])
def test_what_is_not_a_lock_of_spack_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_lock(text)
