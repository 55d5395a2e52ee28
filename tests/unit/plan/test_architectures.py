"""Plans for machines of another architecture than the usual one, made there and elsewhere."""

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from plan_samples import DEBIAN_12, SPACK, make_request, sample_plan, sample_settings

from slurm_factory.constants import Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch.upstream import clingo_source, prefetch_command, zig_source
from slurm_factory.instances.images import candidates, mirror_of, mirror_variable, sources_list
from slurm_factory.instances.network import find_network
from slurm_factory.plan.architectures import ARCHITECTURES
from slurm_factory.plan.base_setup import (
    base_packages,
    foreign_packages,
    foreign_programs,
    setup_digest,
)
from slurm_factory.plan.bases import Base, bases, find_base
from slurm_factory.plan.plan import BuildPlan, make_plan

ARM = "aarch64"
UBUNTU = find_base("ubuntu@24.04", DEBIAN_12)
CROSS = sample_plan(gpu=True, arch=ARM)
NATIVE = sample_plan(gpu=True, architecture=ARM)


def refusal(**changes: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        sample_plan(**changes)
    return caught.value


@pytest.mark.parametrize(("deps", "base"), [*product(Deps, bases())])
def test_plans_of_another_machine_name_no_x86_64(deps: Deps, base: Base) -> None:
    spack = replace(SPACK, target=ARM)
    plan = sample_plan(architecture=ARM, deps=deps, base=base.name, spack=spack, gpu=True)
    document = plan.describe()
    # These name the archive of x86_64, and why a feature is missing.
    del document["base"], document["unavailable"]
    assert "x86" not in json.dumps(document)
    assert plan.stem.endswith(ARM)
    assert not plan.is_cross
    assert not [name for name in base_packages(plan.setup) if "libze" in name]
    for source in (clingo_source(base, ARM), zig_source(ARM)):
        assert [url for url in source.urls if ARM not in url] == []


def test_package_of_another_architecture_has_the_same_name_wherever_it_is_built() -> None:
    assert CROSS.stem == NATIVE.stem == "slurm-24.11-gpu-debian-12-system-aarch64"
    assert CROSS.compiler.flags == NATIVE.compiler.flags
    assert CROSS.selection == NATIVE.selection
    assert CROSS.build_key({}) != NATIVE.build_key({})


def test_compiler_of_another_architecture_is_the_one_of_the_distribution() -> None:
    assert CROSS.compiler.tool("gcc") == "aarch64-linux-gnu-gcc"
    assert NATIVE.compiler.tool("gcc") == "gcc"
    # Both: else configure takes a machine with qemu-user for one that does not cross-compile.
    assert {*CROSS.configure_arguments} - {*NATIVE.configure_arguments} == {
        "--build=x86_64-linux-gnu",
        "--host=aarch64-linux-gnu",
    }


def test_base_installs_tools_of_the_machine_and_libraries_of_the_other_one() -> None:
    tools, libraries = base_packages(CROSS.setup), foreign_packages(CROSS.setup)
    assert "crossbuild-essential-arm64" in tools
    assert [name for name in tools if name.endswith("-dev")] == []
    assert [name for name in libraries if not name.endswith(":arm64")] == []
    assert foreign_programs(CROSS.setup) == ("munge:arm64",)
    apart = {name.partition(":")[0] for name in (*libraries, "munge:")}
    native = {*base_packages(NATIVE.setup)} - {"libperl-dev"}
    assert {*tools, *apart} - {"crossbuild-essential-arm64"} == native
    assert (foreign_packages(NATIVE.setup), foreign_programs(NATIVE.setup)) == ((), ())
    assert setup_digest(CROSS.setup) != setup_digest(NATIVE.setup)
    assert {*libraries, *tools} <= {*CROSS.inputs.base_packages}


def test_base_is_an_instance_of_this_machine() -> None:
    assert candidates(CROSS.base, CROSS.machine)[1].alias == "slurm-factory-debian-12-x86_64"


@pytest.mark.parametrize(
    ("changes", "brief", "resolution"),
    [
        (
            {"arch": ARM, "deps": Deps.SPACK},
            "--deps spack does not build for aarch64 on x86_64.",
            "Run it on a machine of aarch64, or use --deps system.",
        ),
        (
            {"arch": ARM, "base": "same", "destructive_mode": True},
            "--destructive-mode does not build for aarch64 on x86_64.",
            "Omit it to build in LXD.",
        ),
        (
            {"architecture": "riscv64", "arch": ARM},
            "--deps system does not build for aarch64 on riscv64.",
            "Run it on a machine of aarch64.",
        ),
        ({"arch": "arm64"}, "'arm64' cannot be built for.", "Write --arch aarch64, for example."),
        ({"arch": "aarch"}, "'aarch' cannot be built for.", "Write --arch aarch64, for example."),
        ({"arch": "vax"}, "'vax' cannot be built for.", "Write --arch x86_64, for example."),
    ],
)
def test_what_cannot_be_built_for_another_architecture_is_refused(
    changes: dict[str, object], brief: str, resolution: str
) -> None:
    error = refusal(**changes)
    assert error.exit_code == 2
    assert error.brief.endswith(brief)
    assert error.resolution == resolution


def test_a_feature_that_another_architecture_lacks_is_told() -> None:
    assert "x86_64 only" in CROSS.selection.unavailable["oneapi"]
    error = refusal(arch=ARM, additional_variants="+oneapi")
    assert error.brief == ("+oneapi is not available with --deps system on debian@12 for aarch64.")


@pytest.mark.parametrize("machine", ["x86_64", ARM])
def test_what_a_cross_build_lacks_is_there_for_the_machine_itself(machine: str) -> None:
    assert "perl" in features(sample_plan(architecture=machine, additional_variants="+perl"))
    other = {"x86_64": ARM, ARM: "x86_64"}[machine]
    error = refusal(architecture=machine, arch=other, additional_variants="+perl")
    assert error.details.startswith("Its build runs the Perl of the machine")


def features(plan: BuildPlan) -> set[str]:
    return {feature.name for feature in plan.selection.chosen}


def test_the_advice_about_a_build_on_this_machine_is_not_refused_next() -> None:
    wrong: dict[str, Any] = {"arch": ARM, "base": "same", "destructive_mode": True}
    assert "Spack compiles" in refusal(**wrong, deps=Deps.SPACK).details
    assert refusal(**wrong).resolution == "Omit it to build in LXD."
    assert sample_plan(**(wrong | {"destructive_mode": False})).is_cross


def test_this_machines_own_architecture_is_no_other_one() -> None:
    assert sample_plan(arch="x86_64") == sample_plan()
    assert make_plan(make_request(arch="riscv64"), "riscv64", DEBIAN_12).architecture == "riscv64"


def test_the_command_that_fetches_such_a_plan_names_the_architecture() -> None:
    assert prefetch_command(CROSS).endswith(" --arch aarch64 --deps system")
    assert "--arch" not in prefetch_command(NATIVE)
    unknown = sample_plan("25.05.9", sha256="a" * 64)
    assert prefetch_command(unknown).endswith(f" --sha256 {'a' * 64}")
    assert "--sha256" not in prefetch_command(sample_plan("25.05.8"))
    assert "--glibc base" in prefetch_command(sample_plan(deps=Deps.SPACK, glibc="base"))


@pytest.mark.parametrize("machine", ["x86_64", ARM])
def test_ubuntu_has_other_architectures_in_its_ports(
    machine: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("slurm_factory.instances.images.configured_mirrors", lambda *_: ())
    settings = sample_settings(tmp_path)
    assert mirror_of(UBUNTU, settings, "x86_64") == "http://archive.ubuntu.com/ubuntu"
    assert mirror_of(UBUNTU, settings, ARM) == "http://ports.ubuntu.com/ubuntu-ports"
    assert mirror_of(CROSS.base, settings, ARM) == mirror_of(CROSS.base, settings, "x86_64")
    own = sample_settings(tmp_path, ubuntu_ports_mirror="http://ports.example/u")
    assert mirror_of(UBUNTU, own, ARM) == "http://ports.example/u"
    assert mirror_variable(UBUNTU, ARM) == "SLURM_FACTORY_UBUNTU_PORTS_MIRROR"
    assert mirror_variable(UBUNTU, "x86_64") == "SLURM_FACTORY_UBUNTU_MIRROR"
    monkeypatch.setattr(
        "slurm_factory.instances.images.configured_mirrors", lambda *_: ("http://near.example/u",)
    )
    assert mirror_of(UBUNTU, settings, machine) == "http://near.example/u"
    other = {"x86_64": ARM, ARM: "x86_64"}[machine]
    assert "near.example" not in mirror_of(UBUNTU, settings, other)


def test_apt_takes_each_architecture_from_the_archive_that_has_it(tmp_path: object) -> None:
    settings = sample_settings(tmp_path)
    image = candidates(UBUNTU, "x86_64")[0]
    setup = sample_plan(arch=ARM, base=UBUNTU.name).setup
    network = find_network(setup, "x86_64", image, settings)
    assert network.sources_list == ""
    assert {line.split()[1] for line in network.cross_sources.splitlines()} == {"[arch=arm64]"}
    assert "noble-updates main universe" in network.cross_sources
    for plan in (CROSS, sample_plan(base=UBUNTU.name)):
        image = candidates(plan.base, "x86_64")[0]
        assert find_network(plan.setup, "x86_64", image, settings).cross_sources == ""


def test_names_are_those_of_the_distributions() -> None:
    assert [a.triplet.partition("-")[0] for a in ARCHITECTURES.values()] == [*ARCHITECTURES]
    assert sources_list(UBUNTU, sample_settings("/srv/c"), ARM).startswith("deb http://ports")
