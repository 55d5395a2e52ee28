"""The real Spack finds a graph for every series and build type, and only what belongs in it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from plan_samples import spack_plan
from real_spack import HERE, WHY_NOT, Spack

from slurm_factory.constants import SPACK_NAMESPACE, BuildType
from slurm_factory.plan.features import table
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.plan.releases import series
from slurm_factory.recipes.spack.repository import write_repository
from slurm_factory.spack_yaml import generate_yaml_string

pytestmark = [pytest.mark.spack, pytest.mark.skipif(not HERE, reason=WHY_NOT)]

SCRIPT = Path(__file__).with_name("concretize_plans.py")
TOOLS = (
    *("autoconf", "automake", "bison", "cmake", "diffutils", "findutils", "flex", "gawk", "gcc"),
    *("gettext", "gmake", "libtool", "m4", "perl", "pkgconf", "python", "tar"),
)
"""What a base has; those that this machine lacks are pretended, since nothing is built."""
BASE_VERSIONS = {"flex": "2.6.4+lex", "gcc": "12.2.0 languages:='c,c++,fortran'"}

BASIC = {
    *("munge", "bzip2", "libgcrypt", "libgpg-error", "zlib", "readline", "ncurses"),
    *("gcc-runtime", "glibc", "slurm"),
}
"""All that a minimal package may need at run time."""
BY_FEATURE = {
    "readline": {"readline"},
    "hwloc": {"hwloc"},
    "numa": {"numactl"},
    "pmix": {"pmix"},
    "restd": {"json-c", "http-parser", "libyaml", "libjwt"},
    "cgroup": {"dbus"},
    "pam": {"linux-pam"},
    "mariadb": {"mariadb-c-client"},
    "lua": {"lua"},
    "curl": {"curl"},
    "lz4": {"lz4"},
    "hdf5": {"hdf5"},
    "ipmi": {"freeipmi"},
    "kafka": {"librdkafka"},
    "tls": {"s2n-tls"},
    "ucx": {"ucx"},
}
"""What Slurm is linked with for a feature of the table."""
HEAVY = re.compile(
    r"cuda|hip|rocm-.*|hsa-.*|llvm.*|oneapi-.*|level-zero|glib|gtk.*|krb5|openssh|libx.*|python"
)
"""Never in a run-time graph; `hip` and `cuda` not even to build with."""

Graph = dict[str, dict[str, Any]]


def plans() -> dict[str, BuildPlan]:
    """One of each series and type, and two with all that can be added."""
    found = {
        f"{name}-{build_type}": spack_plan(
            name, gpu=build_type is BuildType.GPU, minimal=build_type is BuildType.MINIMAL
        )
        for name in series()
        for build_type in BuildType
    }
    extra = spack_plan("25.05", minimal=True, additional_variants="+hdf5 +multiple_slurmd +tls")
    fabrics = spack_plan("25.05", additional_variants="+ipmi +kafka +ucx")
    return {**found, "extra": extra, "fabrics": fabrics}


def externals(spack: Spack, directory: Path) -> dict[str, Any]:
    """Build tools of this machine as Spack finds them, and stand-ins for what it lacks."""
    (directory / "spack.yaml").write_text(
        yaml.safe_dump({"spack": {"specs": [], **configuration(spack)}}, sort_keys=False)
    )
    subprocess.run(
        [spack.program, "-e", directory, "external", "find", "--not-buildable", *TOOLS],
        env={**spack.environment(), "PATH": "/usr/sbin:/usr/bin"},
        check=True,
        capture_output=True,
    )
    written = yaml.safe_load((directory / "spack.yaml").read_text())["spack"].get("packages", {})
    found = {name: written[name] for name in TOOLS if written.get(name, {}).get("externals")}
    pretended = {
        name: {
            "externals": [{"spec": f"{name}@{BASE_VERSIONS.get(name, '99')}", "prefix": "/usr"}],
            "buildable": False,
        }
        for name in TOOLS
        if name not in found
    }
    [compiler] = (found | pretended)["gcc"]["externals"][:1]
    # Fortran belongs to a base; this machine may do without.
    compiler["spec"] = re.sub(r"languages.*", "languages:='c,c++,fortran'", compiler["spec"])
    compiler.setdefault("extra_attributes", {})["compilers"] = {
        "c": "/usr/bin/gcc",
        "cxx": "/usr/bin/g++",
        "fortran": "/usr/bin/gfortran",
    }
    return found | pretended


def configuration(spack: Spack) -> dict[str, Any]:
    return {
        "repos:": {"builtin": str(spack.builtin)},
        "config": {"misc_cache": str(spack.cache / "index")},
    }


def environment(spack: Spack, directory: Path, tools: dict[str, Any]) -> Path:
    """What the factory renders, with the paths of this machine instead of an instance's."""
    overlay = directory / "spack_repo" / SPACK_NAMESPACE
    plan = spack_plan("25.05")
    write_repository(overlay, plan.compiler)
    rendered = yaml.safe_load(generate_yaml_string(plan))["spack"]
    document = {
        "specs": [],
        "include": ["externals.yaml"],
        "repos:": {SPACK_NAMESPACE: str(overlay), "builtin": str(spack.builtin)},
        "concretizer": {"unify": True, "reuse": False},
        "config": {
            "misc_cache": str(spack.cache / "index"),
            "install_tree": {"root": str(directory / "store")},
        },
        "packages": rendered["packages"],
    }
    # A key with two colons replaces what lower scopes have; a dumper would quote one of them.
    text = yaml.safe_dump({"spack": document}, sort_keys=False).replace("'repos:':", "repos::")
    (directory / "spack.yaml").write_text(text)
    (directory / "externals.yaml").write_text(yaml.safe_dump({"packages": tools}))
    return directory


@pytest.fixture(scope="module")
def graphs(spack: Spack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """The graph of every plan, by the plan's name."""
    home = tmp_path_factory.mktemp("concretize")
    search = home / "search"
    search.mkdir()
    tools = externals(spack, search)
    here = environment(spack, home, tools)
    roots = home / "roots.json"
    roots.write_text(json.dumps({name: list(plan.roots) for name, plan in plans().items()}))
    done = subprocess.run(
        [spack.program, "python", SCRIPT, here, roots],
        env=spack.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Graph] = json.loads(done.stdout)
    return found


def runtime(graph: Graph, *roots: str) -> set[str]:
    """Names of all that is linked with or run, from `roots` down."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]["runtime"]
    return found


@pytest.mark.parametrize("name", plans())
def test_every_plan_has_a_graph_in_which_nothing_heavy_runs(
    name: str, graphs: dict[str, Graph]
) -> None:
    graph = graphs[name]
    assert isinstance(graph, dict), graph
    assert {"cuda", "hip", "rocm-smi-lib", "oneapi-level-zero"} & set(graph) == set()
    assert [tool for tool in TOOLS if tool in graph and not graph[tool]["external"]] == []
    heavy = {package for package in runtime(graph, "slurm") if HEAVY.fullmatch(package)}
    assert heavy == set()


@pytest.mark.parametrize("name", plans())
def test_slurm_is_linked_with_what_the_feature_table_promises(
    name: str, graphs: dict[str, Graph]
) -> None:
    chosen = {feature.variant for feature in plans()[name].selection.chosen}
    linked = set(graphs[name]["slurm"]["runtime"])
    expected = set().union(*(needs for variant, needs in BY_FEATURE.items() if variant in chosen))
    absent = set().union(*BY_FEATURE.values()) - expected
    assert linked >= expected
    assert linked & absent == set()


@pytest.mark.parametrize("name", [name for name in plans() if name.endswith("minimal")])
def test_minimal_needs_nothing_but_munge_and_readline(name: str, graphs: dict[str, Graph]) -> None:
    assert runtime(graphs[name], "slurm") <= BASIC


@pytest.mark.parametrize("name", plans())
def test_nothing_is_patched_from_the_network(name: str, graphs: dict[str, Graph]) -> None:
    patched = {package: node["remote"] for package, node in graphs[name].items() if node["remote"]}
    assert patched == {}


@pytest.mark.parametrize("name", plans())
def test_spack_applies_the_patches_of_the_plan_in_their_order(
    name: str, graphs: dict[str, Graph]
) -> None:
    assert graphs[name]["slurm"]["patches"] == [patch.name for patch in plans()[name].patches]


@pytest.mark.parametrize("name", [name for name in plans() if name.endswith("gpu")])
def test_gpu_adds_only_headers_to_build_with(name: str, graphs: dict[str, Graph]) -> None:
    standard = graphs[name.replace("gpu", "standard")]
    assert set(graphs[name]) - set(standard) == {"nvml-stub", "rocm-smi-stub", "level-zero-stub"}
    assert runtime(graphs[name], "slurm") == runtime(standard, "slurm")


def test_every_variant_of_the_feature_table_is_one_of_the_recipe(graphs: dict[str, Graph]) -> None:
    variants = set(graphs["25.05-standard"]["slurm"]["variants"])
    assert {feature.variant for feature in table() if feature.variant} <= variants


def test_open_mpi_has_the_ucx_of_slurm(graphs: dict[str, Graph]) -> None:
    assert "ucx" in graphs["fabrics"]["openmpi"]["runtime"]
    assert "ucx" not in graphs["25.05-standard"]


def test_pmix_is_one_for_slurm_and_for_openmpi(graphs: dict[str, Graph]) -> None:
    graph = graphs["25.05-standard"]
    assert "pmix" in graph["slurm"]["runtime"]
    assert "pmix" in graph["openmpi"]["runtime"]
    assert graph["openmpi"]["namespace"] == SPACK_NAMESPACE
