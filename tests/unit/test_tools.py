"""The scripts in tools/, with stand-ins for the programs that change a session's groups."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from git_samples import META, make_repository, run_git, served

from slurm_factory.plan.releases import Release, find_release

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
# A session of alice that is older than her membership in lxd: MAIN and OTHERS are its groups.
ID = """#!/bin/sh
case "$*" in
-u) echo 1000 ;;
-un) echo alice ;;
-gn) echo "$MAIN" ;;
-Gn) echo "$MAIN $OTHERS" ;;
"-Gn alice") echo "$DATABASE" ;;
esac
"""
# Both make a group the main one; shadow's keeps the one before among the others.
SG = {
    "shadow": """#!/bin/sh
        OTHERS="$OTHERS $1" MAIN=$1 exec sh -c "$3" """,
    "util-linux": """#!/bin/sh
        MAIN=$1 exec sh -c "$3" """,
}
SUDO = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
OTHERS="$OTHERS lxd" PATH=$SECURE_PATH exec env -u PYTHONPATH "$@"
"""
REFUSED = "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n"
ARGUMENTS = ("a b", "$HOME", "it's", "")


def groups_and_arguments(
    directory: Path, *, sg: str, sudo: str = REFUSED, **environment: str
) -> tuple[str, str, list[str], str]:
    """What a command sees: main group, other groups, its arguments, PYTHONPATH."""
    programs = directory / "bin"
    programs.mkdir()
    for name, text in {"id": ID, "sg": sg, "sudo": sudo, "show": SHOW}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    variables = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "SECURE_PATH": f"{programs}{os.pathsep}/usr/bin:/bin",
        "MAIN": "alice",
        "OTHERS": "sudo",
        "DATABASE": "alice sudo lxd",
        "PYTHONPATH": "tests/unit",
        **environment,
    }
    command = ["bash", str(TOOLS / "with-lxd-group.sh"), "show", *ARGUMENTS]
    shown = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    main, others, path, *arguments = shown.stdout.split("\n")
    return main, others, arguments[:-1], path


SHOW = """#!/bin/sh
printf '%s\\n' "$MAIN" "$OTHERS" "$PYTHONPATH" "$@"
"""


@pytest.mark.parametrize(
    ("sg", "sudo", "main"),
    [("shadow", REFUSED, "alice"), ("util-linux", SUDO, "alice"), ("util-linux", REFUSED, "lxd")],
)
def test_new_member_of_lxd_has_the_group_in_the_same_shell(
    tmp_path: Path, sg: str, sudo: str, main: str
) -> None:
    got = groups_and_arguments(tmp_path, sg=SG[sg], sudo=sudo)
    assert (got[0], got[2], got[3]) == (main, list(ARGUMENTS), "tests/unit")
    assert "lxd" in f"{got[0]} {got[1]}".split()
    assert "sudo" in got[1].split()


@pytest.mark.parametrize(
    "environment", [{"OTHERS": "sudo lxd"}, {"DATABASE": "alice sudo"}], ids=["has it", "no member"]
)
def test_session_that_has_the_group_or_cannot_have_it_is_left_alone(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    main, others, arguments, _ = groups_and_arguments(
        tmp_path, sg="#!/bin/sh\nexit 1\n", **environment
    )
    assert (main, others) == ("alice", environment.get("OTHERS", "sudo"))
    assert arguments == list(ARGUMENTS)


PROGRAM = """#!/bin/sh
echo "$*" >> "${0%/*}/calls"
[ "$1" = build ] || printf '{\n  "lxd": %s\n}\n' "$LXD"
[ "$1" = build ] || exit "$SETUP"
"""
PREPARE = "setup --fallback --json"
BUILD = "build --slurm-version 24.11.5 --deps system --base same"


@pytest.mark.parametrize(
    ("setup", "lxd", "calls"),
    [
        (0, "true", [PREPARE, BUILD]),
        (0, "false", [PREPARE, f"{BUILD} --destructive-mode"]),
        (3, "false", [PREPARE]),
        (4, "true", [PREPARE]),
    ],
)
def test_make_build_builds_without_lxd_only_where_setup_has_prepared_that(
    tmp_path: Path, setup: int, lxd: str, calls: list[str]
) -> None:
    program = tmp_path / "slurm-factory"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 24.11.5\n")
    python.chmod(0o755)
    environment = {**os.environ, "SETUP": str(setup), "LXD": lxd}
    command = ["bash", str(TOOLS / "build.sh"), str(program)]
    assert subprocess.run(command, env=environment, check=False).returncode == setup
    assert (tmp_path / "calls").read_text().splitlines() == calls


def chosen_release(cache: Path, mirror: Path) -> tuple[str, str]:
    """What is chosen, and why, where only the mirror (host) answers."""
    nowhere = "http://127.0.0.1:9"
    environment = {
        **os.environ,
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
        "no_proxy": "127.0.0.1",
        "SLURM_FACTORY_CACHE_DIR": str(cache),
        "SLURM_FACTORY_DEBIAN_MIRROR": nowhere,
        "SLURM_FACTORY_SOURCE_MIRRORS": f"file://{mirror}",
    }
    command = [sys.executable, str(TOOLS / "choose_release.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr.strip()


def test_make_build_takes_the_newest_release_that_answers_else_one_with_debians_fixes(
    tmp_path: Path,
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    release, why = chosen_release(tmp_path / "cache", mirror)
    assert release == "24.11.5"
    assert re.fullmatch(
        r"Slurm 24\.11\.5: with Debian's fixes, because no source of \S+ answers here\.", why
    )
    newest = find_release("latest")
    (mirror / Path(newest.url).name).write_bytes(b"it is only asked whether it is there")
    release, why = chosen_release(tmp_path / "cache", mirror)
    assert release == newest.release
    assert why == f"Slurm {release}: the newest supported release."


def test_new_release_of_a_repository_enters_the_catalog(tmp_path: Path) -> None:
    repository = make_repository(
        tmp_path / "slurm", {"META": META.format(version="26.05.91", release="1")}
    )
    run_git(repository, "tag", "slurm-26-05-91-1")
    catalog = tmp_path / "releases.json"
    shutil.copy(ROOT / "slurm_factory" / "resources" / "releases.json", catalog)
    command = [sys.executable, str(TOOLS / "new_releases.py"), str(catalog)]
    with served(repository) as server:
        environment = {
            **os.environ,
            "SLURM_FACTORY_SLURM_URL": server.url,
            "SLURM_FACTORY_CACHE_DIR": str(tmp_path / "cache"),
            "no_proxy": "127.0.0.1",
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "26.05.91\n"
    rows = json.loads(catalog.read_text())["releases"]
    added = {row["release"]: row for row in rows}["26.05.91"]
    assert Release.model_validate(added).tag == "slurm-26-05-91-1"
    assert rows.index(added) == len(rows) - 1
    others = json.loads((ROOT / "slurm_factory" / "resources" / "releases.json").read_text())
    assert rows[:-1] == others["releases"]


def check_tag(tag: str, directory: Path) -> tuple[int, str]:
    """Exit code and message for a tag of a program of version 1.2.0."""
    program = directory / "slurm-factory"
    program.write_text("#!/bin/sh\necho 1.2.0\n")
    program.chmod(0o755)
    command = ["bash", str(TOOLS / "check-tag.sh"), tag, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_tag_that_names_the_version_is_published(tmp_path: Path) -> None:
    assert check_tag("v1.2.0", tmp_path) == (0, "")


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2", "v1.2.0-1", "v*", ""])
def test_tag_that_does_not_name_the_version_is_refused(tag: str, tmp_path: Path) -> None:
    status, message = check_tag(tag, tmp_path)
    assert status == 1
    assert message.startswith(f"Error: The tag {tag} does not name the version of the program")
    assert "v1.2.0" in message
