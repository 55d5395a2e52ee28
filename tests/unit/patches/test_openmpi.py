"""The patches that let Open MPI, PRRTE and PMIx find their prefix: what they add, for real.

Each function is taken out of its patch, compiled into a library, and asked from several places.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from paths import REPOSITORY

PACKAGES = REPOSITORY / "patches" / "spack_repo" / "slurm_factory" / "packages"
ADDED = re.compile(
    r"^\+#include <dlfcn\.h>$.*?^\+static char \*(?P<name>\w*own_prefix)\(void\)$.*?^\+}$",
    re.MULTILINE | re.DOTALL,
)
PROBE = """\
#define _GNU_SOURCE
{code}
#ifdef PROGRAM
int main(void) {{ char *prefix = {name}(); puts(prefix ? prefix : "(none)"); return 0; }}
#else
const char *probe(void) {{ char *prefix = {name}(); return prefix ? prefix : "(none)"; }}
#endif
"""
ASK = "import ctypes, sys; p = ctypes.CDLL(sys.argv[1]).probe; p.restype = ctypes.c_char_p; "
ASK += "print(p().decode())"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@dataclass(frozen=True)
class Probe:
    """One function of a patch, as a library and as a program."""

    library: Path
    program: Path
    marker: str
    """What the function looks for, below the prefix."""
    destdir: str
    """Variable that says that an installation is being staged."""


def sources() -> dict[str, str]:
    """The C code that each patch adds, by the name of the project it patches."""
    found = {}
    for file in sorted(PACKAGES.glob("*/*-relocatable.patch")):
        for hunks in re.split(r"(?m)^--- a/", file.read_text("utf-8"))[1:]:
            if match := ADDED.search(hunks):
                lines = match[0].splitlines()
                code = "\n".join(line[1:] for line in lines if line.startswith("+"))
                project = re.search(r"(\w+)_DESTDIR", code)
                assert project
                found[project[1]] = PROBE.format(code=code, name=match["name"])
    return found


@pytest.fixture(scope="module", params=sources())
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    project: str = request.param
    code = sources()[project]
    built = tmp_path_factory.mktemp(project)
    (built / "probe.c").write_text(code, "utf-8")
    cc = ["cc", "-Wall", "-Werror", "-Wno-format-truncation", "probe.c"]
    for arguments in (["-shared", "-fPIC", "-o", "lib.so"], ["-DPROGRAM", "-o", "program"]):
        subprocess.run([*cc, *arguments, "-ldl"], cwd=built, check=True)
    marker = re.search(r"share/(openmpi|prte|pmix)/[\w-]+\.txt", code)
    assert marker
    return Probe(built / "lib.so", built / "program", marker[0], f"{project}_DESTDIR")


def tree(root: Path, probe: Probe) -> Path:
    """An installation with the library and the program in it."""
    for name in ("lib", "bin", str(Path(probe.marker).parent)):
        (root / name).mkdir(parents=True)
    (root / probe.marker).touch()
    shutil.copy(probe.library, root / "lib" / "lib.so")
    shutil.copy(probe.program, root / "bin" / "program")
    return root


def ask(library: Path, **environment: str) -> str:
    command = [sys.executable, "-c", ASK, str(library)]
    answer = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd="/"
    )
    return answer.stdout.strip()


def test_patches_are_there() -> None:
    assert {"OPAL", "PRTE"} <= sources().keys()


def test_moved_library_still_names_the_old_place(probe: Probe, tmp_path: Path) -> None:
    old = tree(tmp_path / "old", probe)
    assert ask(old / "lib" / "lib.so") == str(old)
    new = old.rename(tmp_path / "another place")
    assert ask(new / "lib" / "lib.so") == str(new)


def test_program_with_the_code_linked_in_is_lost(probe: Probe, tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", probe)
    answer = subprocess.run(
        [root / "bin" / "program"], stdout=subprocess.PIPE, text=True, check=True
    )
    assert answer.stdout.strip() == str(root)


def test_library_reached_by_a_link_names_the_place_of_the_link(
    probe: Probe, tmp_path: Path
) -> None:
    root = tree(tmp_path / "tree", probe)
    (tmp_path / "link.so").symlink_to(root / "lib" / "lib.so")
    assert ask(tmp_path / "link.so") == str(root)


def test_library_deeper_in_the_tree_is_lost(probe: Probe, tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", probe)
    (root / "lib" / "private").mkdir()
    deeper = (root / "lib" / "lib.so").rename(root / "lib" / "private" / "lib.so")
    assert ask(deeper) == str(root)


def test_library_without_its_tree_invents_a_prefix(probe: Probe, tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", probe)
    (root / probe.marker).unlink()
    assert ask(root / "lib" / "lib.so") == "(none)"


def test_own_place_spoils_a_staged_installation(probe: Probe, tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", probe)
    assert ask(root / "lib" / "lib.so", **{probe.destdir: "/staging"}) == "(none)"
