"""setup-spack.sh with a stand-in for Spack: what it leaves in a base, and what it turns down."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from slurm_factory import resources

STAND_IN = """\
#!/bin/bash
# Notes how it was called; says that it found every tool but $MISSING.
env > "$CALLED"
echo "$@" >> "$CALLED"
cat "$SPACK_USER_CONFIG_PATH"/*.yaml >> "$CALLED"
shift 5
{
    echo packages:
    for tool in "$@"; do
        [[ $tool == "$MISSING" ]] || printf '  %s:\\n    buildable: false\\n' "$tool"
    done
} > "$SPACK_USER_CONFIG_PATH/packages.yaml"
"""
LIBRARIES = {"bzip2", "curl", "krb5", "ncurses", "openssl", "readline", "xz", "zlib"}


@pytest.fixture
def parameters(tmp_path: Path) -> dict[str, str]:
    """A Spack that is one script, recipes that are one file, a clingo that is one line."""
    program = tmp_path / "program"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    archives = {"SPACK_ARCHIVE": "bin/spack", "PACKAGES_ARCHIVE": "repos/recipe.py"}
    for key, member in archives.items():
        with tarfile.open(tmp_path / key, "w:gz") as tar:
            tar.add(program, member)
    with zipfile.ZipFile(tmp_path / "CLINGO_WHEEL", "w") as wheel:
        wheel.writestr("clingo.py", "")
    made = {
        "SPACK": "opt/spack",
        "SPACK_PACKAGES": "opt/packages",
        "SPACK_PYTHON": "opt/python/bin/python3",
        "EXTERNALS": "opt/externals/packages.yaml",
        "INDEX": "opt/misc",
        "CALLED": "called",
        **{key: key for key in (*archives, "CLINGO_WHEEL")},
    }
    return {key: str(tmp_path / path) for key, path in made.items()}


def run(parameters: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", resources.script("setup-spack.sh")],
        env={"PATH": path, **parameters, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_base_gets_spack_its_recipes_clingo_and_the_list_of_its_tools(
    parameters: dict[str, str], tmp_path: Path
) -> None:
    done = run(parameters)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "opt/spack/bin/spack").exists()
    assert (tmp_path / "opt/packages/repos/recipe.py").exists()
    imported = [parameters["SPACK_PYTHON"], "-c", "import clingo"]
    assert subprocess.run(imported, check=False).returncode == 0
    found = yaml.safe_load(Path(parameters["EXTERNALS"]).read_text())["packages"]
    assert {"gcc", "cmake", "perl", "python", "pkgconf", "libtool"} <= {*found}
    assert not {*found} & LIBRARIES, "what a package contains must not come from the base"


def test_spack_runs_on_its_own_python_reads_no_users_files_and_sees_each_tool_once(
    parameters: dict[str, str],
) -> None:
    run(parameters)
    called = Path(parameters["CALLED"]).read_text()
    assert f"SPACK_PYTHON={parameters['SPACK_PYTHON']}\n" in called
    assert "PATH=/usr/sbin:/usr/bin\n" in called
    assert "external find --not-buildable --scope user autoconf" in called
    assert f'misc_cache: "{parameters["INDEX"]}"' in called
    assert f'builtin: "{parameters["SPACK_PACKAGES"]}/repos/spack_repo/builtin"' in called
    [scratch] = re.findall(r"SPACK_USER_CONFIG_PATH=(.*)", called)
    assert not Path(scratch).exists()


def test_nothing_that_was_only_needed_to_make_the_base_stays_in_it(
    parameters: dict[str, str],
) -> None:
    run(parameters)
    for key in ("SPACK_ARCHIVE", "PACKAGES_ARCHIVE", "CLINGO_WHEEL"):
        assert not Path(parameters[key]).exists()


def test_a_tool_that_spack_does_not_find_fails_the_setup_and_is_named(
    parameters: dict[str, str],
) -> None:
    done = run(parameters, MISSING="bison")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "Spack did not find bison in the base"
    assert not Path(parameters["EXTERNALS"]).exists()


def test_a_clingo_that_cannot_be_imported_fails_the_setup(
    parameters: dict[str, str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "CLINGO_WHEEL", "w") as wheel:
        wheel.writestr("clingo.py", "import no_such_module")
    done = run(parameters)
    assert done.returncode != 0
    assert "no_such_module" in done.stdout
    assert not Path(parameters["CALLED"]).exists()
