"""What packaging adds to a tree."""

import json
from pathlib import Path

import pytest
from package_samples import IDENTITY

from slurm_factory.exceptions import OutputError, VerificationError
from slurm_factory.package.contents import collect_licences, write_identity


def test_identity_holds_the_lines_that_module_files_look_for(tmp_path: Path) -> None:
    path = write_identity(tmp_path, IDENTITY)
    assert path == tmp_path / "share" / "slurm-factory.json"
    text = path.read_text()
    assert '"release": "24.11.5"' in text
    assert '"build_type": "standard"' in text
    assert json.loads(text)["deps"] == "system"


def test_every_component_gets_its_licence_text(tmp_path: Path) -> None:
    texts = {name: tmp_path / name for name in ("COPYING", "LICENSE.OpenSSL", "copyright")}
    for name, path in texts.items():
        path.write_text(name)
    (tmp_path / "linked").symlink_to("copyright")
    tree = tmp_path / "tree"
    written = collect_licences(
        tree,
        [texts["COPYING"], texts["LICENSE.OpenSSL"]],
        {"zlib1g": texts["copyright"], "libcurl4": tmp_path / "linked"},
    )
    assert {str(path.relative_to(tree)): path.read_text() for path in written} == {
        "share/licenses/slurm/COPYING": "COPYING",
        "share/licenses/slurm/LICENSE.OpenSSL": "LICENSE.OpenSSL",
        "share/licenses/libcurl4/copyright": "copyright",
        "share/licenses/zlib1g/copyright": "copyright",
    }
    assert not any(path.is_symlink() for path in written)


def test_component_without_licence_text_is_not_passed_on(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="licence text of zlib1g is missing"):
        collect_licences(tmp_path, [], {"zlib1g": tmp_path / "none"})


def test_tree_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "share").write_text("")
    with pytest.raises(OutputError):
        write_identity(tmp_path, IDENTITY)
    (tmp_path / "COPYING").write_text("")
    with pytest.raises(OutputError):
        collect_licences(tmp_path, [tmp_path / "COPYING"], {})
