"""What was another one for a package, and which of its files that may explain."""

from copy import deepcopy
from typing import Any

import pytest
from package_samples import CURL, ZLIB, make_manifest
from plan_samples import sample_plan, spack_plan

from slurm_factory.package.manifest import File, Manifest, SpackBuild, SpackPackage
from slurm_factory.reproduce.causes import (
    Cause,
    Kind,
    base_causes,
    explains,
    find_causes,
    packages_of,
    plain,
    spack_causes,
)

FILE = File(name="x.tar.gz", size=1, sha256="0" * 64)


def manifest(plan: dict[str, Any]) -> Manifest:
    made = make_manifest((FILE,))
    return made.model_copy(update={"plan": plan, "slurm_factory": plan["factory"]})


@pytest.mark.parametrize("plan", [sample_plan(), spack_plan()])
def test_the_same_plan_has_no_causes(plan: Any) -> None:
    assert find_causes(manifest(plan.describe()), plan.describe()) == ()


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"recipe": "f" * 64}, (Kind.PROGRAM, "scripts and templates")),
        ({"code": "f" * 64}, (Kind.PROGRAM, "code that packs")),
        ({"factory": "0.0.1"}, (Kind.PROGRAM, "slurm-factory")),
        ({"tools": {"jinja2": "1"}}, (Kind.PROGRAM, "jinja2")),
        ({"cflags": ["-O0"]}, (Kind.PLAN, "cflags")),
        ({"patches": []}, (Kind.PLAN, "patches")),
        ({"glibc": "2.17"}, (Kind.PLAN, "glibc")),
    ],
)
def test_each_part_of_a_plan_is_a_cause(changes: dict[str, Any], cause: tuple[Kind, str]) -> None:
    here = sample_plan().describe()
    found = find_causes(manifest(deepcopy(here) | changes), here)
    assert cause in {(each.kind, each.name) for each in found}


def test_another_source_and_another_spack_are_causes() -> None:
    here = spack_plan().describe()
    there = deepcopy(here)
    there["release"]["sha256"] = "0" * 64
    there["spack"]["ref"] = "v1.0.0"
    names = [str(each) for each in find_causes(manifest(there), here)]
    assert names == [
        f"source sha256 {'0' * 64} → {here['release']['sha256']}",
        "Spack's ref v1.0.0 → v1.1.0",
    ]


def test_packages_of_a_base_are_named() -> None:
    ours = {"packages": {"libssl3:amd64": "3.0.20-1", "gcc:amd64": "12", "old:amd64": "1"}}
    theirs = {"packages": {"libssl3:amd64": "3.0.21-1", "gcc:amd64": "12"}}
    assert [str(each) for each in base_causes(ours, theirs)] == [
        "libssl3:amd64 3.0.20-1 → 3.0.21-1",
        "old:amd64 1 → none",
    ]
    assert base_causes(ours, ours) == ()


def test_a_base_that_is_no_record_is_no_obstacle() -> None:
    found = base_causes({"packages": ["x"], "checkouts": 7}, {"packages": {"gcc": "12"}})
    assert [str(each) for each in found] == ["gcc none → 12"]


def build(version: str, digest: str) -> SpackBuild:
    package = SpackPackage(
        name="readline", version=version, hash=digest, run_time=True, cached=False, seconds=1
    )
    return SpackBuild(concretized=True, packages=(package,))


def test_other_choices_of_spack_are_causes() -> None:
    a, b = build("8.2", "a" * 32), build("8.3", "b" * 32)
    (found,) = spack_causes(a, b)
    assert str(found) == "readline 8.2 /aaaaaaa → 8.3 /bbbbbbb"
    assert spack_causes(a, a) == spack_causes(None, a) == ()


def test_a_library_is_explained_by_its_own_package_only() -> None:
    packages = packages_of(make_manifest((FILE,)))
    zlib = Cause(Kind.BASE, "zlib1g:amd64", "1", "2")
    assert explains(zlib, ZLIB.file, packages)
    assert explains(zlib, ZLIB.file.replace("0a1b2c3d", "ffffffff"), packages)
    assert not explains(zlib, CURL.file, packages)
    # A header of any package may have gone into Slurm.
    assert explains(zlib, "bin/srun", packages)
    assert explains(Cause(Kind.PROGRAM, "patchelf", "1", "2"), CURL.file, packages)


def test_tags_are_left_out() -> None:
    assert plain("lib/private/libz-0a1b2c3d.so.1") == "lib/private/libz.so.1"
    assert plain("libz.so") == "libz.so"
