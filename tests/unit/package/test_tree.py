"""What a tree says of itself, also one that somebody else has made."""

from pathlib import Path

import pytest

from slurm_factory.package.tree import look_at


def test_release_of_somebody_else_s_tree_is_in_its_header(tmp_path: Path) -> None:
    header = tmp_path / "include/slurm/slurm_version.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define SLURM_VERSION_NUMBER 0x19050a\n")
    assert look_at(tmp_path).release == "25.05.10"
    assert look_at(tmp_path).series == "25.05"


@pytest.mark.parametrize("text", ["", "{", '{"release": 5}', '{"release": "$(reboot).1.2"}', "[]"])
def test_tree_that_lies_about_its_release_has_none(tmp_path: Path, text: str) -> None:
    identity = tmp_path / "share/slurm-factory.json"
    identity.parent.mkdir(parents=True)
    identity.write_text(text)
    assert look_at(tmp_path).release == ""


def test_slurm_without_x11_says_so_in_its_library(tmp_path: Path) -> None:
    library = tmp_path / "lib/slurm/libslurmfull.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\0X11 forwarding not built in\0")
    assert not look_at(tmp_path).x11
    library.write_bytes(b"\0")
    assert look_at(tmp_path).x11
