"""The scripts of the actions, with the environment of a runner: what users write wrong, and what
must not become a command."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import REPOSITORY
from runner_files import annotations, parsed

from slurm_factory.package.file_names import file_names

SCRIPTS = REPOSITORY / "tools" / "action"
ATTESTATION = REPOSITORY / "tools" / "action" / "attestation.sh"
START = REPOSITORY / "setup-slurm" / "start.sh"
GH = """#!/bin/bash
printf '%s\\n' "$*" >> "$CALLS"
[[ $1-$2 != release-view ]]
"""


def run(script: Path, directory: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run a script as a step does; returns its exit status and what it printed."""
    environment = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(directory / "output"),
        "GITHUB_PATH": str(directory / "path"),
        "GITHUB_REPOSITORY": "somebody/project",
        "GITHUB_STEP_SUMMARY": str(directory / "summary"),
        "HOME": str(directory),
        "PATH": f"{directory}{os.pathsep}{os.environ['PATH']}",
        "RUNNER_TEMP": str(directory),
    }
    done = subprocess.run(
        [str(script), *arguments],
        cwd=directory,
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def options(directory: Path, **inputs: str) -> list[str]:
    """The options of `build` for these inputs."""
    variables = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
    assert run(SCRIPTS / "read-inputs.sh", directory, **variables) == (0, "")
    content = (directory / "slurm-factory-options").read_text()
    assert content.endswith("\0")
    return content.split("\0")[:-1]


def refusal(directory: Path, **inputs: str) -> dict[str, str]:
    """The annotation for wrong inputs."""
    variables = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
    status, output = run(SCRIPTS / "read-inputs.sh", directory, **variables)
    assert status == 2
    [annotation] = annotations(output)
    assert annotation["kind"] == "error"
    assert annotation["text"].startswith(annotation["title"])
    return annotation


def test_one_line_of_a_workflow_builds_the_newest_release_on_the_runner(tmp_path: Path) -> None:
    wanted = ["--deps=system", "--base=same", "--slurm-version=latest", "--destructive-mode"]
    assert options(tmp_path) == wanted
    # A composite action hands on empty inputs, too.
    empty = dict.fromkeys(("slurm_version", "source", "sha256", "patches", "base"), "")
    assert options(tmp_path, **empty) == wanted


def test_each_input_is_an_option(tmp_path: Path) -> None:
    given = options(
        tmp_path,
        slurm_version="25.11",
        type="gpu",
        additional_variants="~restd +hdf5",
        deps="spack",
        base="debian@12",
        patches="one.patch\n\n  two words.patch  \n",
        verify="true",
        lxd="true",
    )
    assert given == [
        *("--deps=spack", "--base=debian@12", "--slurm-version=25.11", "--gpu"),
        *("--additional-variants=~restd +hdf5", "--patch=one.patch"),
        *("--patch=two words.patch", "--verify"),
    ]
    own = options(tmp_path, source="git+https://host.example/slurm@main", sha256="a" * 64)
    assert own[2:4] == ["--source=git+https://host.example/slurm@main", f"--sha256={'a' * 64}"]


@pytest.mark.parametrize(
    "value", ["$(touch stolen)", "`touch stolen`", "; touch stolen", "--jobs=9"]
)
def test_an_input_never_becomes_a_command_or_another_option(tmp_path: Path, value: str) -> None:
    given = options(tmp_path, slurm_version=value, additional_variants=value, base=value)
    assert given[1:4] == [
        *(f"--base={value}", f"--slurm-version={value}", f"--additional-variants={value}")
    ]
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize(
    ("inputs", "title"),
    [
        ({"type": "big"}, "The input type is not valid: big"),
        ({"lxd": "yes"}, "The input lxd is not valid: yes"),
        ({"verify": "1"}, "The input verify is not valid: 1"),
        ({"cache": "True"}, "The input cache is not valid: True"),
        ({"deps": "spack"}, "deps: spack needs lxd: true"),
        ({"type": "a\n::error::b, 5%"}, "The input type is not valid: a\n::error::b, 5%"),
    ],
)
def test_a_wrong_input_is_an_annotation_with_the_way_out(
    tmp_path: Path, inputs: dict[str, str], title: str
) -> None:
    assert refusal(tmp_path, **inputs)["title"] == title


# --- the cache ----------------------------------------------------------------------------------


def cache_outputs(directory: Path, outcome: str, **variables: str) -> dict[str, str]:
    document = {"cache": {"key": "p-s.k", "restore_keys": ["p-s.", "p-"], "paths": ["/a", "/b"]}}
    output = directory / "output"
    subprocess.run(
        [sys.executable, str(SCRIPTS / "set_cache_outputs.py"), outcome],
        env={**os.environ, "GITHUB_OUTPUT": str(output), **variables},
        input=json.dumps(document),
        text=True,
        check=True,
    )
    return parsed(output.read_text())


@pytest.mark.parametrize("outcome", ["", "success", "skipped"])
def test_a_whole_cache_has_the_name_that_is_planned(tmp_path: Path, outcome: str) -> None:
    assert cache_outputs(tmp_path, outcome) == {
        "key": "p-s.k",
        "restore-keys": "p-s.\np-",
        "paths": "/a\n/b",
    }


def test_the_cache_of_a_failed_build_does_not_take_the_name_of_a_whole_one(tmp_path: Path) -> None:
    run_ids = {"GITHUB_RUN_ID": "42", "GITHUB_RUN_ATTEMPT": "3"}
    assert cache_outputs(tmp_path, "failure", **run_ids)["key"] == "p-s.unfinished-42-3"


def test_outputs_that_cannot_be_written_are_an_error_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "set_cache_outputs.py"), ""],
        env={**os.environ, "GITHUB_OUTPUT": "/dev/full"},
        input='{"cache": {"key": "", "restore_keys": [], "paths": []}}',
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("GITHUB_OUTPUT cannot be written: /dev/full.")
    assert "Traceback" not in done.stderr


# --- setup-slurm --------------------------------------------------------------------------------


def package_in(directory: Path, stem: str = "slurm-25.11") -> Path:
    """A tarball with its list of checksums, but without content."""
    tarball = directory / f"{stem}-software.tar.gz"
    tarball.write_bytes(stem.encode())
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    lines = f"{digest}  {tarball.name}\n{digest}  {stem}-module.tar.gz\n"
    (directory / f"{stem}.sha256").write_text(lines)
    return tarball


def start(directory: Path, package: object, prefix: str = "/opt/slurm") -> dict[str, str]:
    """Where the cluster does not start: the annotation."""
    for program in ("id", "sudo"):
        (directory / program).write_text(
            '#!/bin/sh\n[ "$1" = -u ] && echo 1000 || echo "$*"\nexit 1\n'
        )
        (directory / program).chmod(0o755)
    inputs = {"INPUT_PACKAGE": str(package), "INPUT_PREFIX": prefix}
    status, output = run(START, directory, **inputs)
    assert status in {1, 2}, output
    [annotation] = annotations(output)
    return annotation


@pytest.mark.parametrize("named", ["slurm-25.11-software.tar.gz", "slurm-25.11-manifest.json", "."])
def test_a_package_is_found_by_each_of_its_names(tmp_path: Path, named: str) -> None:
    tarball = package_in(tmp_path)
    refused = start(tmp_path, tmp_path / named)
    # The one who stands in for sudo prints the command.
    assert refused["title"] == "The cluster did not start"
    assert f"start-cluster.sh {tarball} /opt/slurm" in refused["text"].replace("/./", "/")


def test_a_damaged_package_is_not_started(tmp_path: Path) -> None:
    tarball = package_in(tmp_path)
    tarball.write_bytes(b"damaged")
    assert start(tmp_path, tarball)["title"] == f"{tarball.name} is damaged"


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    assert "There is no file" in start(tmp_path, tmp_path / "gone-manifest.json")["text"]
    assert "has 0 files" in start(tmp_path, tmp_path)["text"]
    package_in(tmp_path)
    package_in(tmp_path, "slurm-26.05")
    assert "has 2 files" in start(tmp_path, tmp_path)["text"]


@pytest.mark.parametrize(
    "prefix", ["relative", "/", "", "/a b", "/a\nprefix=/b", "/a;b", "/a|b", "/a/../b/.."]
)
def test_a_prefix_that_cannot_be_used_is_refused(tmp_path: Path, prefix: str) -> None:
    refused = start(tmp_path, package_in(tmp_path), prefix)
    assert refused["title"] == f"The input prefix is not valid: {prefix}"
    assert not (tmp_path / "output").exists()


# --- a release ----------------------------------------------------------------------------------


def release(
    directory: Path, packages: Path, tag: str = "slurm-25.11"
) -> tuple[int, str, list[str]]:
    """Exit status, output and calls of gh."""
    (directory / "gh").write_text(GH)
    (directory / "gh").chmod(0o755)
    calls = directory / "calls"
    variables = {"CALLS": str(calls), "TAG": tag, "GH_TOKEN": "secret"}
    status, output = run(SCRIPTS / "release.sh", directory, str(packages), **variables)
    return status, output, calls.read_text().splitlines() if calls.exists() else []


def test_packages_are_attached_before_anybody_sees_the_release(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    tarball = package_in(packages)
    module = packages / "slurm-25.11-module.tar.gz"
    module.write_bytes(tarball.read_bytes())
    status, output, calls = release(tmp_path, packages)
    assert status == 0, output
    to = "--repo somebody/project"
    files = sorted(map(str, packages.iterdir()))
    assert calls == [
        f"release view slurm-25.11 {to}",
        f"release create slurm-25.11 {to} --title slurm-25.11 --notes  --draft",
        f"release upload slurm-25.11 {to} --clobber {' '.join(files)}",
        f"release edit slurm-25.11 {to} --draft=false",
    ]


def test_a_release_of_nothing_or_of_damaged_packages_is_not_made(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    assert release(tmp_path, packages)[::2] == (1, [])
    package_in(packages).write_bytes(b"damaged")
    status, output, calls = release(tmp_path, packages)
    assert (status, calls) == (1, [])
    assert "A package is damaged" in output
    assert release(tmp_path, packages, "-x")[::2] == (2, [])


# --- release ------------------------------------------------------------------------------------


def test_the_attestation_is_put_beside_each_package(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for stem in ("slurm-25.11", "slurm-25.11-gpu"):
        package_in(packages, stem)
    bundle = tmp_path / "attestation.json"
    bundle.write_text("the bundle")
    status, output = run(ATTESTATION, tmp_path, "packages", BUNDLE=str(bundle))
    assert status == 0, output
    for stem in ("slurm-25.11", "slurm-25.11-gpu"):
        assert (packages / file_names(stem).bundle).read_text() == "the bundle"
    bundle.write_text("")
    status, output = run(ATTESTATION, tmp_path, "packages", BUNDLE=str(bundle))
    assert status == 1
    assert annotations(output)[0]["title"] == "There is no attestation"
