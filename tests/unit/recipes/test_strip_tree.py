"""Stripping an installed tree, however many files it has."""

import subprocess
from pathlib import Path

import pytest

from slurm_factory import resources

BATCH = 128 << 10
"""Bytes of file names that xargs hands over at once (xargs(1), --max-chars)."""


def strip(tree: Path) -> None:
    script = resources.script("strip-tree.sh")
    environment = {"TREE": str(tree), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def has_symbols(program: Path) -> bool:
    sections = subprocess.check_output(["readelf", "-SW", program], text=True)
    return ".symtab" in sections


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one program, which has symbols."""
    tree = tmp_path / "tree"
    for directory in ("bin", "lib", "share/man/man8"):
        (tree / directory).mkdir(parents=True)
    source = tmp_path / "main.c"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-g", "-o", tree / "bin/program", source], check=True)
    return tree


def test_a_tree_whose_list_of_files_takes_several_commands_is_stripped(tree: Path) -> None:
    manual = tree / "share/man/man8"
    count = 3 * BATCH // len(f"{manual}/page-00000.8")
    for number in range(count):
        (manual / f"page-{number:05}.8").touch()
    strip(tree)
    assert not has_symbols(tree / "bin/program")
    assert len([*manual.iterdir()]) == count


def test_a_tree_without_a_program_is_not_a_failure(tree: Path) -> None:
    (tree / "bin/program").unlink()
    strip(tree)


def test_libraries_for_building_go_and_the_page_of_a_daemon_that_is_not_there(tree: Path) -> None:
    for name in ("lib/libx.a", "lib/libx.la", "share/man/man8/slurmrestd.8", "lib/libx.so"):
        (tree / name).touch()
    strip(tree)
    assert [path.name for path in (tree / "lib").iterdir()] == ["libx.so"]
    assert not (tree / "share/man/man8/slurmrestd.8").exists()
