"""What packaging adds to a tree."""

import errno
import json
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import NoReturn

import pytest
from package_samples import IDENTITY

from slurm_factory.exceptions import OutputError, VerificationError
from slurm_factory.package.licenses import collect_common_licenses, collect_licenses, write_identity
from slurm_factory.relocate.tree import make_room


def test_identity_holds_the_lines_that_module_files_look_for(tmp_path: Path) -> None:
    path = write_identity(tmp_path, IDENTITY)
    assert path == tmp_path / "share" / "slurm-factory.json"
    text = path.read_text()
    assert '"release": "24.11.5"' in text
    assert '"build_type": "standard"' in text
    assert json.loads(text)["deps"] == "system"


def test_every_component_gets_its_license_text(tmp_path: Path) -> None:
    (tmp_path / "copyright").write_text("copyright")
    (tmp_path / "linked").symlink_to("copyright")
    tree = tmp_path / "tree"
    texts = {"zlib1g": tmp_path / "copyright", "libcurl4": tmp_path / "linked"}
    written = collect_licenses(tree, texts)
    assert {str(path.relative_to(tree)): path.read_text() for path in written} == {
        "share/licenses/libcurl4/copyright": "copyright",
        "share/licenses/zlib1g/copyright": "copyright",
    }
    assert not any(path.is_symlink() for path in written)


def test_component_without_license_text_is_not_passed_on(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="license text of zlib1g is missing"):
        collect_licenses(tmp_path, {"zlib1g": tmp_path / "none"})


REFERENCES = {
    "curl": "see `/usr/share/common-licenses/GPL-2'.",
    "dbus": "see /usr/share/common-licenses/GPL-2. And /usr/share/common-licenses/Apache-2.0",
    "ffi": "in\n `/usr/share/common-licenses/{MPL-1.1, LGPL-2.1}'.",
    "gnutls": "in /usr/share/common-licenses/LGPL-3+ or /usr/share/common-licenses",
}


@pytest.fixture
def common(tmp_path: Path) -> Path:
    """Texts as the distribution has them, and a tree in which licenses name some."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("Apache-2.0", "BSD", "GPL-2", "LGPL-2.1", "LGPL-3", "MPL-1.1"):
        (texts / name).write_text(f"text of {name}")
    for component, text in REFERENCES.items():
        path = tmp_path / "tree/share/licenses" / component / "copyright"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode() + b"\xe9")
    return texts


def test_every_text_that_a_license_names_is_in_the_tree(tmp_path: Path, common: Path) -> None:
    written = collect_common_licenses(tmp_path / "tree", common)
    names = {"Apache-2.0", "GPL-2", "LGPL-2.1", "LGPL-3", "MPL-1.1"}
    assert {path.name: path.read_text() for path in written} == {n: f"text of {n}" for n in names}
    assert {path.parent for path in written} == {tmp_path / "tree/share/licenses/common-licenses"}


def test_license_that_names_a_text_which_is_not_there_is_not_passed_on(
    tmp_path: Path, common: Path
) -> None:
    (common / "MPL-1.1").unlink()
    with pytest.raises(VerificationError, match="license text of ffi is missing") as caught:
        collect_common_licenses(tmp_path / "tree", common)
    assert "MPL-1.1" in caught.value.details
    assert "base-files" in caught.value.resolution


def test_nothing_is_written_through_links_of_a_tree(tmp_path: Path, common: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    outside.write_text("untouched")
    (tree / "sbin").mkdir()
    (tree / "sbin/slurmd").write_text("untouched")
    places = {
        "share/slurm-factory.json": outside,
        "share/licenses/lz4/copyright": Path("../../../sbin/slurmd"),
        "share/licenses/common-licenses/GPL-2": outside,
    }
    for place, target in places.items():
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).symlink_to(target)
    write_identity(tree, IDENTITY)
    collect_licenses(tree, {"lz4": common / "BSD"})
    collect_common_licenses(tree, common)
    assert outside.read_text() == (tree / "sbin/slurmd").read_text() == "untouched"
    assert not any((tree / place).is_symlink() for place in places)


HOSTILE_NAMES = ("{/etc/passwd}", "{../../../../etc/passwd}", "{a/../../b}", "{..}", "{.}", "{}")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_license_that_names_a_file_elsewhere_reaches_nothing(tmp_path: Path, name: str) -> None:
    license_text = tmp_path / "tree/share/licenses/slurm/COPYING"
    license_text.parent.mkdir(parents=True)
    license_text.write_text(f"/usr/share/common-licenses/{name}")
    before = sorted(tmp_path.rglob("*"))
    assert collect_common_licenses(tmp_path / "tree", tmp_path / "texts") == ()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x"])
def test_no_file_of_a_tree_is_made_outside_it(tmp_path: Path, path: str) -> None:
    with pytest.raises(VerificationError, match="is in the way"):
        make_room(tmp_path / "tree", PurePosixPath(path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_the_way", ["file", "link"])
def test_directory_of_a_tree_that_is_none_is_refused(tmp_path: Path, in_the_way: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    if in_the_way == "file":
        (tree / "share").write_text("")
    else:
        (tree / "share").symlink_to(tmp_path)
    (tmp_path / "COPYING").write_text("")
    with pytest.raises(VerificationError, match="share is in the way"):
        write_identity(tree, IDENTITY)
    with pytest.raises(VerificationError, match="share is in the way"):
        collect_licenses(tree, {"zlib1g": tmp_path / "COPYING"})
    assert {path.name for path in tmp_path.iterdir()} == {"tree", "COPYING"}


def test_tree_that_cannot_be_written_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    (tmp_path / "COPYING").write_text("")
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError):
        write_identity(tmp_path / "tree", IDENTITY)
    with pytest.raises(OutputError):
        collect_licenses(tmp_path / "tree", {"zlib1g": tmp_path / "COPYING"})


def test_a_text_that_cannot_be_read_is_not_reported_as_one_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "libraries/lz4"
    text.parent.mkdir()
    text.write_text("BSD")

    def refuse(source: Path, _: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(source))

    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(OutputError) as caught:
        collect_licenses(tmp_path / "software", {"lz4": text})
    assert caught.value.brief == f"{text} could not be read."
    assert f"(ls -ld {text.parent})" in caught.value.resolution
