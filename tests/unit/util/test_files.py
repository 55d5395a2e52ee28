"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from slurm_factory.util.files import appearing


def test_a_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with appearing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_two_that_write_the_same_file_do_not_take_each_others(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with appearing(path) as first:
        first.write(b"fir")
        with appearing(path) as second:
            second.write(b"second")
        assert path.read_text() == "second"
        first.write(b"st")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_nothing_is_left_of_a_file_that_did_not_become_whole(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def write_half() -> None:
        with appearing(tmp_path / "file") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []
