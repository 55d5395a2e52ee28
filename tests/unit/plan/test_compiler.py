"""Flags of compiler and linker."""

import subprocess
from pathlib import Path

import pytest
from plan_samples import sample_plan

from slurm_factory.plan.bases import Base, bases
from slurm_factory.plan.compiler import compiler_for, cpu_features, generic_level

DEBIAN_12 = sample_plan().base


def test_control_flow_is_protected_as_each_architecture_does_it() -> None:
    flags = {
        architecture: {*compiler_for(architecture, DEBIAN_12).hardening}
        for architecture in ("x86_64", "aarch64", "riscv64")
    }
    common = flags["riscv64"]
    assert flags["x86_64"] - common == {"-fcf-protection"}
    assert flags["aarch64"] - common == {"-mbranch-protection=standard"}


@pytest.mark.parametrize("base", bases(), ids=lambda base: base.slug)
def test_level_of_fortify_source_is_one_that_the_base_has(base: Base) -> None:
    """Before gcc 12 the C library warns in each file and treats 3 as 2 (features.h)."""
    flags = compiler_for("x86_64", base).hardening
    level = 2 if base.name == "ubuntu@22.04" else 3
    assert flags[-2:] == ("-U_FORTIFY_SOURCE", f"-D_FORTIFY_SOURCE={level}")


def test_plan_names_the_flags_and_so_does_the_build_key() -> None:
    plans = [sample_plan(base=base) for base in ("debian@12", "ubuntu@22.04")]
    described = [plan.describe() for plan in plans]
    assert [entry["cflags"] for entry in described] == [list(p.compiler.slurm) for p in plans]
    assert described[0]["cflags"] != described[1]["cflags"]


@pytest.mark.parametrize("is_plugin", [True, False])
def test_programs_and_libraries_bind_all_symbols_at_load_and_plugins_do_not(
    is_plugin: bool, tmp_path: Path
) -> None:
    """The order on the command line of libtool: CFLAGS, the target's flags, LDFLAGS."""
    flags = sample_plan().compiler
    own = [] if is_plugin else [argument.partition("=")[2] for argument in flags.make]
    source, program = tmp_path / "a.c", tmp_path / "a"
    source.write_text('int puts(const char *);\nint main(void) { return puts(""); }\n')
    command = ["gcc", *flags.slurm, *own, *flags.slurm_linker, "-o", str(program), str(source)]
    subprocess.run(command, check=True)
    shown = subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True)
    assert ("NOW" in shown.stdout) is not is_plugin


@pytest.mark.parametrize(
    ("target", "level", "mark"),
    [
        ("x86_64", "x86_64", ""),
        ("x86_64_v2", "x86_64_v2", "x86-64-v2"),
        ("x86_64_v3", "x86_64_v3", "x86-64-v3"),
        ("haswell", "x86_64_v3", "x86-64-v3"),
        ("zen4", "x86_64_v4", "x86-64-v4"),
        ("neoverse_n1", "armv8.2a", ""),
        ("", "", ""),
    ],
)
def test_files_are_marked_with_the_level_that_they_need(target: str, level: str, mark: str) -> None:
    compiler = compiler_for("x86_64", DEBIAN_12, target=target)
    assert generic_level(target) == level
    assert [flag for flag in compiler.slurm_linker if "x86-64" in flag] == (
        [f"-Wl,-z,{mark}"] if mark else []
    )


def test_features_of_a_level_are_those_that_linux_names() -> None:
    assert cpu_features("x86_64") == cpu_features("neoverse_n1") == cpu_features("none") == ()
    assert {"avx2", "bmi2", "fma"} <= {*cpu_features("zen3")}
    assert "sse3" not in cpu_features("x86_64_v2")
    assert cpu_features("haswell") == cpu_features("x86_64_v3")
