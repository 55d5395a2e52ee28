"""What `make dist` builds: its files, its metadata, and the program that is installed from it."""

import email.policy
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from email.message import EmailMessage
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import REPOSITORY

from slurm_factory import __version__

NAME = "slurm_package_factory"
UV = REPOSITORY / ".tools" / "bin" / "uv"
OFFLINE = ("--offline", "--no-cache", "--no-config", "--quiet")
EPOCH = "1700000000"
LICENSES = ["LICENSE", "patches/LICENSE"]
MANUAL = "docs/slurm-factory.1"
PROGRAM = ("LICENSE", "README.md", MANUAL, "patches/", "slurm_factory/")
"""Starts of the names of what a source distribution takes from the repository."""
PLAN = ("build", "--slurm-version", "25.11", "--base", "debian@12", "--dry-run", "--json")


class Distributions(NamedTuple):
    """Files (host) that were built from one tree."""

    wheel: Path
    sdist: Path


def run(command: Iterable[str | Path], **variables: str) -> None:
    environment = {**os.environ, **variables}
    done = subprocess.run([*command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build(source: Path, out: Path, *which: str) -> None:
    """Build as the Makefile does, into the directory `out` (host)."""
    python = ("--no-build-isolation", "--python", sys.executable)
    options = (*OFFLINE, *python, *which)
    run([UV, "build", *options, "--out-dir", out, source], SOURCE_DATE_EPOCH=EPOCH)


def tracked() -> list[str]:
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if (REPOSITORY / name).is_file()]


def copy_tree(directory: Path) -> Path:
    """The repository's files as they are now, and some that every working tree gets."""
    for name in tracked():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, target)
        target.chmod((REPOSITORY / name).stat().st_mode)
    cache = directory / "slurm_factory" / "__pycache__"
    cache.mkdir()
    (cache / "main.cpython-311.pyc").write_bytes(b"compiled")
    return directory


def built(tree: Path, out: Path) -> Distributions:
    build(tree, out)
    [wheel], [sdist] = out.glob("*.whl"), out.glob("*.tar.gz")
    return Distributions(wheel, sdist)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def distributions(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    return built(tree, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def about(distributions: Distributions) -> EmailMessage:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        text = wheel.read(f"{NAME}-{__version__}.dist-info/METADATA")
    return BytesParser(EmailMessage, policy=email.policy.default).parsebytes(text)


def test_wheel_has_the_program_with_its_resources_and_patches_and_nothing_else(
    distributions: Distributions,
) -> None:
    ours = {name: name for name in tracked() if name.startswith("slurm_factory/")}
    patches = [name for name in tracked() if name.startswith("patches/")]
    expected = ours | {f"slurm_factory/resources/{name}": name for name in patches}
    # Installed where man(1) looks for it.
    data = f"{NAME}-{__version__}.data/data/share/man/man1"
    expected |= {f"{data}/{Path(MANUAL).name}": MANUAL}
    with zipfile.ZipFile(distributions.wheel) as wheel:
        held = {name: wheel.read(name) for name in wheel.namelist()}
    about = {name for name in held if name.startswith(f"{NAME}-{__version__}.dist-info/")}
    assert sorted(held.keys() - about) == sorted(expected)
    assert {name: (REPOSITORY / source).read_bytes() for name, source in expected.items()} == {
        name: content for name, content in held.items() if name not in about
    }
    assert {name.partition("/")[2] for name in about} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt"),
        *(f"licenses/{name}" for name in LICENSES),
    }


def test_source_distribution_has_what_the_wheel_is_made_of_and_nothing_else(
    distributions: Distributions,
) -> None:
    with tarfile.open(distributions.sdist) as sdist:
        members = sdist.getmembers()
    assert all(member.isfile() for member in members)
    assert sorted(member.name for member in members) == sorted(
        f"{NAME}-{__version__}/{name}"
        for name in (
            *(name for name in tracked() if name.startswith(PROGRAM)),
            *(".gitignore", "PKG-INFO", "pyproject.toml"),
        )
    )


def test_wheel_of_the_source_distribution_is_that_of_the_tree(
    tree: Path, distributions: Distributions, tmp_path: Path
) -> None:
    build(tree, tmp_path, "--wheel")
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.read_bytes() == distributions.wheel.read_bytes()


def test_same_sources_give_the_same_bytes_elsewhere_and_later(
    distributions: Distributions, tmp_path: Path
) -> None:
    other = copy_tree(tmp_path / "elsewhere")
    for path in other.rglob("*"):
        path.chmod(path.stat().st_mode | 0o020)  # as with umask 0002
        os.utime(path, (1_000_000_000, 1_000_000_000))
    again = built(other, tmp_path / "dist")
    assert [file.name for file in again] == [file.name for file in distributions]
    assert [f.read_bytes() for f in again] == [f.read_bytes() for f in distributions]


def test_metadata_says_what_this_is(about: EmailMessage) -> None:
    assert about["Name"] == NAME.replace("_", "-")
    assert about["Version"] == __version__
    assert about.get_all("License-File") == LICENSES
    assert "GPL-2.0-or-later" in about["License-Expression"]


def test_page_on_pypi_has_no_link_that_only_the_repository_can_follow(about: EmailMessage) -> None:
    page = about.get_payload()
    assert isinstance(page, str)
    targets = re.findall(r"\]\(([^)]+)\)", page)
    ours = [t for t in targets if f"/slurm-factory/blob/v{__version__}/docs/install.md" in t]
    assert ours
    assert all(target.startswith(("https://", "#")) for target in targets)


def test_pypi_accepts_both_files(distributions: Distributions) -> None:
    run([sys.executable, "-m", "twine", "check", "--strict", *distributions])


def test_version_that_is_installed_here_is_that_of_the_program() -> None:
    assert metadata.version(NAME) == __version__


def answer(program: Path, directory: Path, *arguments: str) -> str:
    """What a program of an environment prints when it is run in a directory of nobody."""
    environment = {"HOME": str(directory), "PATH": f"{program.parent}:/usr/bin:/bin"}
    done = subprocess.run(
        [program, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dependencies(requirements: Iterable[str]) -> dict[str, metadata.Distribution]:
    """Everything that the requirements ask for, of what is installed here."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        wanted, extra = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        distribution = found.setdefault(name, metadata.distribution(name))
        for asked in ("", *wanted.extras):
            if (name, asked) not in seen:
                seen.add((name, asked))
                waiting += [(Requirement(text), asked) for text in distribution.requires or ()]
    return found


@pytest.fixture(scope="module")
def installed(
    distributions: Distributions, about: EmailMessage, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Directory (host) of the programs of an environment with the wheel and its dependencies."""
    root = tmp_path_factory.mktemp("installed") / "environment"
    run([UV, "venv", *OFFLINE, "--python", sys.executable, root])
    python = root / "bin" / "python"
    run([UV, "pip", "install", *OFFLINE, "--no-deps", "--python", python, distributions.wheel])
    [site] = root.glob("lib/python3*/site-packages")
    # Links, because the files are here already and a registry may be out of reach.
    for distribution in dependencies(about.get_all("Requires-Dist", [])).values():
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return root / "bin"


def test_installed_command_has_the_version(installed: Path, tmp_path: Path) -> None:
    assert answer(installed / "slurm-factory", tmp_path, "--version") == f"{__version__}\n"


@pytest.mark.parametrize(
    "words",
    [("versions",), ("versions", "--json"), PLAN, (*PLAN, "--deps", "system")],
    ids=" ".join,
)
def test_installed_command_answers_as_that_of_the_checkout(
    words: tuple[str, ...], installed: Path, tmp_path: Path
) -> None:
    here = Path(sys.executable).with_name("slurm-factory")
    told = answer(installed / "slurm-factory", tmp_path, *words)
    assert told
    assert told == answer(here, tmp_path, *words)


def test_plan_of_the_installed_command_has_our_patches(installed: Path, tmp_path: Path) -> None:
    plan = json.loads(answer(installed / "slurm-factory", tmp_path, *PLAN))["plan"]
    assert "slurm-relocatable.patch" in {patch["name"] for patch in plan["patches"]}


def test_installed_files_come_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    program = (
        "from slurm_factory import resources;"
        " print(resources.__file__, resources.patches_dir(), sep='\\n')"
    )
    found = answer(installed / "python", tmp_path, "-c", program)
    assert all(Path(line).is_relative_to(installed.parent) for line in found.splitlines())


def test_every_module_finds_what_it_imports_among_the_dependencies(
    installed: Path, tmp_path: Path
) -> None:
    program = (
        "import pkgutil, slurm_factory;"
        " found = pkgutil.walk_packages(slurm_factory.__path__, 'slurm_factory.');"
        " print(len([pkgutil.resolve_name(module.name) for module in found]))"
    )
    assert int(answer(installed / "python", tmp_path, "-c", program)) > 50


def test_installed_scripts_can_be_run(installed: Path) -> None:
    programs = {name for name in tracked() if os.access(REPOSITORY / name, os.X_OK)}
    ours = [name for name in programs if name.startswith("slurm_factory/")]
    [site] = installed.parent.glob("lib/python3*/site-packages")
    assert ours
    assert [name for name in ours if not os.access(site / name, os.X_OK)] == []


def test_only_a_job_that_runs_nothing_of_ours_can_get_a_token_for_pypi() -> None:
    text = (REPOSITORY / ".github" / "workflows" / "publish.yml").read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    jobs = workflow["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert [step for step in jobs["publish"]["steps"] if "run" in step] == []
