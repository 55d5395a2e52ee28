"""The form in which a tree is shipped."""

import subprocess
from pathlib import Path

import pytest

from slurm_factory.relocate.tree import normalize

PKGCONFIG = """\
prefix=/opt/slurm/software
exec_prefix=${prefix}
libdir=/opt/slurm/software/lib
includedir=${prefix}/include

Name: slurm
Description: Slurm
Version: 24.11.5
Libs: -L${libdir} -lslurm
Cflags: -I${includedir}
"""


def test_build_only_files_and_the_directories_they_leave_empty_go(tmp_path: Path) -> None:
    (tmp_path / "lib/static").mkdir(parents=True)
    for name in ("lib/static/libx.a", "lib/libx.la", "lib/libx.so"):
        (tmp_path / name).touch()
    normalize(tmp_path)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["lib", "libx.so"]


@pytest.mark.parametrize(
    ("before", "after"), [(0o4775, 0o755), (0o2666, 0o644), (0o400, 0o644), (0o700, 0o755)]
)
def test_modes_become_those_of_programs_and_of_data(
    tmp_path: Path, before: int, after: int
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub").chmod(0o2777)
    (tmp_path / "sub/file").touch()
    (tmp_path / "sub/file").chmod(before)
    normalize(tmp_path)
    assert (tmp_path / "sub/file").stat().st_mode & 0o7777 == after
    assert (tmp_path / "sub").stat().st_mode & 0o7777 == 0o755


def test_modes_are_not_changed_through_a_link_that_leads_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    outside.chmod(0o600)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(outside)
    normalize(tmp_path / "tree")
    assert outside.stat().st_mode & 0o777 == 0o600


def test_pkg_config_finds_the_tree_where_it_lies(tmp_path: Path) -> None:
    tree = tmp_path / "a new home"
    (tree / "lib/pkgconfig").mkdir(parents=True)
    (tree / "lib/pkgconfig/slurm.pc").write_text(PKGCONFIG, "utf-8")
    normalize(tree)
    text = (tree / "lib/pkgconfig/slurm.pc").read_text("utf-8")
    assert text.startswith("prefix=${pcfiledir}/../..\nexec_prefix=${prefix}\nlibdir=${prefix}/lib")
    assert "/opt" not in text


def test_pkg_config_accepts_the_file(tmp_path: Path) -> None:
    (tmp_path / "lib/pkgconfig").mkdir(parents=True)
    (tmp_path / "lib/pkgconfig/slurm.pc").write_text(PKGCONFIG, "utf-8")
    normalize(tmp_path)
    try:
        done = subprocess.run(
            ["pkg-config", "--variable=libdir", "slurm"],
            env={"PKG_CONFIG_PATH": str(tmp_path / "lib/pkgconfig"), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        pytest.skip("pkg-config is not installed")
    assert Path(done.stdout.strip()).resolve() == tmp_path / "lib"


def test_pkg_config_file_that_is_relocatable_already_stays(tmp_path: Path) -> None:
    relocatable = PKGCONFIG.replace("/opt/slurm/software", "${pcfiledir}/../..")
    (tmp_path / "x.pc").write_text(relocatable, "utf-8")
    normalize(tmp_path)
    assert (tmp_path / "x.pc").read_text("utf-8") == relocatable


def test_pkgconfig_file_without_a_prefix_line_such_as_slurms_loses_its_baked_paths(
    tmp_path: Path,
) -> None:
    file = tmp_path / "lib" / "pkgconfig" / "slurm.pc"
    file.parent.mkdir(parents=True)
    file.write_text("libdir=/opt/slurm/software/lib\nincludedir=/opt/slurm/software/include\n")
    normalize(tmp_path)
    assert file.read_text() == (
        "prefix=${pcfiledir}/../..\nlibdir=${prefix}/lib\nincludedir=${prefix}/include\n"
    )
