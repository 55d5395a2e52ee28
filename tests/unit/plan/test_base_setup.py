"""Directories of plain files, told from git repositories; the version that Spack's files tell."""

from pathlib import Path

import pytest
from git_samples import make_repository, write_files

from slurm_factory.plan.base_setup import spack_version, unpacked_at

VERSION_FILE = "lib/spack/spack/__init__.py"


def test_only_a_directory_without_git_counts_as_unpacked_files(tmp_path: Path) -> None:
    write_files(tmp_path / "plain files", {"a": "b"})
    make_repository(tmp_path / "git", {"a": "b"})
    assert unpacked_at(str(tmp_path / "plain files")) == tmp_path / "plain files"
    assert unpacked_at(f"file://{tmp_path}/plain%20files") == tmp_path / "plain files"
    for other in (tmp_path / "git", tmp_path / "gone", "https://git.example/spack.git"):
        assert unpacked_at(str(other)) is None


def test_a_directory_that_cannot_be_looked_into_is_left_to_those_who_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "exists", refuse)
    assert unpacked_at(str(tmp_path)) is None


@pytest.mark.parametrize(
    "text",
    [
        '__version__ = "1.1.0"\nspack_version = __version__\n',  # 1.1
        '#: PEP440 canonical\n__version__ = "1.1.0"\n',
        "spack_version = '1.1.0'\n",
    ],
)
def test_the_version_that_spacks_files_tell_is_read(text: str, tmp_path: Path) -> None:
    write_files(tmp_path, {VERSION_FILE: text})
    assert spack_version(tmp_path) == "1.1.0"


def test_a_directory_that_tells_no_version_has_none(tmp_path: Path) -> None:
    assert spack_version(tmp_path) == ""
    write_files(tmp_path, {VERSION_FILE: "import os\n"})
    assert spack_version(tmp_path) == ""
