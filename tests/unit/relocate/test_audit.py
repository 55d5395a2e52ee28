"""Each way to break a relocated tree must be found, and nothing else."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from relocate_toolkit import (
    POLICY,
    Instance,
    compile_elf,
    make_common,
    make_instance,
    make_tree,
    relocate_with,
)

from slurm_factory.exceptions import VerificationError
from slurm_factory.relocate.audit import (
    AuditReport,
    Problem,
    Subject,
    audit,
    highest_glibc,
    problems,
)
from slurm_factory.relocate.edits import find_patchelf
from slurm_factory.relocate.elf import ElfFacts, ElfKind, VersionNeed, scan
from slurm_factory.relocate.hardening import Figure, Share
from slurm_factory.relocate.policy import Unversioned, load_policy

BUILD_PATHS = ("/opt/slurm/software", "/srv/build", "/opt/slurm-factory-cache", "/root")


@pytest.fixture(scope="module")
def relocated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    instance = make_instance(tmp_path_factory.mktemp("instance"))
    tree = make_tree(tmp_path_factory.mktemp("relocated") / "software", instance)
    relocate_with(tree, Instance(instance))
    return tree


@pytest.fixture
def tree(tmp_path: Path, relocated: Path) -> Path:
    return shutil.copytree(relocated, tmp_path / "software", symlinks=True)


def audited(tree: Path) -> AuditReport:
    return audit(tree, POLICY, BUILD_PATHS)


def patchelf(*arguments: str) -> Callable[[Path], None]:
    *options, target = arguments

    def change(tree: Path) -> None:
        subprocess.run([find_patchelf(), *options, tree / target], check=True)

    return change


def mode(target: str, bits: int) -> Callable[[Path], None]:
    return lambda tree: (tree / target).chmod((tree / target).stat().st_mode | bits)


def text(target: str, content: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        (tree / target).parent.mkdir(parents=True, exist_ok=True)
        (tree / target).write_text(content, "utf-8")

    return change


def link(target: str, destination: str) -> Callable[[Path], None]:
    return lambda tree: (tree / target).symlink_to(destination)


def remove(pattern: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        (found,) = tree.glob(pattern)
        found.unlink()

    return change


def other_symbol_version(tree: Path) -> None:
    (common,) = tree.glob("lib/private/libcommon-*.so.1")
    shutil.copy(make_common(tree.parent / "other", "other", "COMMON_2"), common)


def forgotten_version_need(tree: Path) -> None:
    (common,) = tree.glob("lib/private/libcommon-*.so.1")
    patchelf("--remove-needed", common.name, "lib/slurm/plug.so")(tree)


BREAKAGES = {
    "build run path": (
        patchelf("--force-rpath", "--set-rpath", "/opt/slurm/software/lib", "bin/alone"),
        "bin/alone: run path /opt/slurm/software/lib is a build path",
    ),
    "foreign run path": (
        patchelf("--force-rpath", "--set-rpath", "/usr/lib", "bin/alone"),
        "bin/alone: run path /usr/lib points outside the tree",
    ),
    "relative run path": (
        patchelf("--force-rpath", "--set-rpath", "lib", "bin/alone"),
        "bin/alone: run path lib points outside the tree",
    ),
    "escaping run path": (
        patchelf("--force-rpath", "--set-rpath", "$ORIGIN/../../lib", "bin/alone"),
        "bin/alone: run path $ORIGIN/../../lib points outside the tree",
    ),
    "dangling run path": (
        patchelf("--force-rpath", "--set-rpath", "$ORIGIN/../lib64", "bin/alone"),
        "bin/alone: run path $ORIGIN/../lib64 does not exist",
    ),
    "DT_RUNPATH": (
        patchelf("--set-rpath", "$ORIGIN/../lib/slurm", "bin/alone"),
        "bin/alone: uses DT_RUNPATH, which LD_LIBRARY_PATH overrides",
    ),
    "build interpreter": (
        patchelf("--set-interpreter", "/srv/build/ld.so", "bin/alone"),
        "bin/alone: interpreter /srv/build/ld.so is a build path",
    ),
    "foreign interpreter": (
        patchelf("--set-interpreter", "/usr/local/lib/ld.so", "bin/alone"),
        "bin/alone: interpreter /usr/local/lib/ld.so is not the system's",
    ),
    "executable stack": (
        patchelf("--set-execstack", "bin/alone"),
        "bin/alone: needs an executable stack",
    ),
    "unknown library": (
        patchelf("--add-needed", "libnowhere.so.1", "bin/alone"),
        "bin/alone: needs libnowhere.so.1, which its run path does not find",
    ),
    "library of the tree that only another file's run path leads to": (
        patchelf("--add-needed", "libengine.so", "bin/alone"),
        "bin/alone: needs libengine.so, which its run path does not find",
    ),
    "library by path": (
        patchelf("--add-needed", "/usr/lib/libdeep.so.1", "bin/alone"),
        "bin/alone: needs /usr/lib/libdeep.so.1 by path",
    ),
    "lost symbol version": (
        other_symbol_version,
        "lib/slurm/plug.so: requires COMMON_1 of libcommon-",
    ),
    "inconsistent symbol versions": (
        forgotten_version_need,
        "lib/slurm/plug.so: requires versions of libcommon-",
    ),
    "setuid": (mode("bin/tool", 0o4000), "bin/tool: is setuid or setgid"),
    "setgid": (mode("lib/slurm", 0o2000), "lib/slurm: is setuid or setgid"),
    "group-writable": (
        mode("bin/tool", 0o020),
        "bin/tool: is writable for its group or for everyone",
    ),
    "world-writable": (mode("lib", 0o002), "lib: is writable for its group or for everyone"),
    "absolute link": (
        link("bin/sh", "/opt/slurm/software/bin/tool"),
        "bin/sh: is an absolute symbolic link to /opt/slurm/software/bin/tool",
    ),
    "escaping link": (
        link("bin/sh", "../../sh"),
        "bin/sh: is a symbolic link to ../../sh, outside the tree",
    ),
    "dangling link": (
        link("bin/sh", "nothing"),
        "bin/sh: is a symbolic link to nothing, which does not exist",
    ),
    "link to itself": (
        link("bin/sh", "sh"),
        "bin/sh: is a symbolic link to sh, which does not exist",
    ),
    "libtool archive": (text("lib/libx.la", ""), "lib/libx.la: is only a build file"),
    "static library": (text("lib/libx.a", ""), "lib/libx.a: is only a build file"),
    "build shebang": (
        text("bin/script", "#!/srv/build/python\n"),
        "bin/script: contains /srv/build, a build path",
    ),
    "build path in pkg-config": (
        text("lib/pkgconfig/x.pc", "prefix=/opt/slurm/software\n"),
        "lib/pkgconfig/x.pc: contains /opt/slurm/software, a build path",
    ),
    "fifo": (
        lambda tree: os.mkfifo(tree / "pipe", 0o600),
        "pipe: is neither a file, a directory nor a symbolic link",
    ),
}


def test_relocated_tree_has_no_problem(relocated: Path) -> None:
    assert audited(relocated).problems == ()
    audited(relocated).require_clean()


@pytest.mark.parametrize("name", BREAKAGES)
def test_breakage_is_found_and_blamed_on_the_right_file(tree: Path, name: str) -> None:
    break_it, problem = BREAKAGES[name]
    break_it(tree)
    (found,) = audited(tree).problems
    assert str(found).startswith(problem)


def test_library_opened_by_name_that_is_gone_is_found(tree: Path) -> None:
    remove("lib/private/libnamed.so.2")(tree)
    reasons = {str(problem.path): problem.reason for problem in audited(tree).problems}
    assert "does not exist" in reasons["lib/private/libnamed.so"]
    assert "opens libnamed.so" in reasons["lib/slurm/plug.so"]


def test_unknown_library_opened_by_name_is_found(tree: Path) -> None:
    code = 'const char *const names[] = {"libmystery.so.3", "%s is not libfoo.so\\n"};'
    compile_elf(tree / "lib/slurm/opener.so", code)
    (problem,) = audited(tree).problems
    assert "opens libmystery.so.3 by name" in problem.reason


def test_file_whose_library_is_gone_is_found_even_if_the_machine_has_that_library(
    tree: Path,
) -> None:
    remove("lib/private/libdeep-*.so.1")(tree)
    blamed = {str(problem.path) for problem in audited(tree).problems}
    assert "lib/private/common/plugin/extra.so" in blamed


def test_library_that_is_a_link_out_of_the_tree_does_not_count_as_inside(tree: Path) -> None:
    (deep,) = tree.glob("lib/private/libdeep-*.so.1")
    shutil.copy(deep, tree.parent)
    deep.unlink()
    deep.symlink_to(f"../../../{deep.name}")
    blamed = {str(problem.path) for problem in audited(tree).problems}
    assert {f"lib/private/{deep.name}", "lib/private/common/plugin/extra.so"} <= blamed


def test_unclean_tree_ends_the_build_with_the_first_problems_in_one_line(tree: Path) -> None:
    for number in range(5):
        text(f"lib/lib{number}.la", "")(tree)
    with pytest.raises(VerificationError) as caught:
        audited(tree).require_clean()
    assert caught.value.exit_code == 6
    assert "5 problem(s)" in caught.value.brief
    assert caught.value.details.count("only a build file") == 3
    assert "\n" not in caught.value.details


def test_outside_libraries_come_with_reason_versions_and_who_needs_them(relocated: Path) -> None:
    (libc,) = audited(relocated).outside
    assert (libc.soname, libc.reason) == ("libc.so.6", "the C library")
    assert any(version.startswith("GLIBC_2.") for version in libc.versions)
    assert PurePosixPath("bin/alone") in libc.linked_by


def test_bundled_libraries_are_listed_under_the_soname_they_had(relocated: Path) -> None:
    bundled = {library.soname: library for library in audited(relocated).bundled}
    tagged = ["libcommon.so.1", "libdeep.so.1", "libdirect.so.1"]
    assert sorted(name for name, library in bundled.items() if library.tagged) == tagged
    assert sorted({*bundled}.difference(tagged)) == ["extra.so", "libnamed.so.2"]


def test_limits_apply_to_what_is_bundled_and_absent_plugins_are_one(tree: Path) -> None:
    assert [limit.id for limit in audited(tree).limits] == ["deep"]
    shutil.rmtree(tree / "lib/private/common")
    assert [limit.id for limit in audited(tree).limits] == ["deep", "no-common-plugins"]


def test_hardening_is_reported_for_each_file_and_in_total_and_is_no_problem(tree: Path) -> None:
    options = ["-no-pie", "-Wl,-z,norelro"]
    compile_elf(tree / "bin/exposed", "int main(void) { return 0; }", options=options)
    report = audited(tree)
    assert report.problems == ()
    assert report.hardening.keys() == scan(tree).keys()
    assert report.hardening[PurePosixPath("bin/exposed")].pie is False
    assert report.totals[Figure.PIE] == Share(have=2, of=3)
    assert report.totals[Figure.RELRO].of == report.totals[Figure.RELRO].have + 1


def test_audit_changes_nothing(tree: Path) -> None:
    before = [(path, path.lstat().st_mtime_ns) for path in sorted(tree.rglob("*"))]
    audited(tree)
    assert [(path, path.lstat().st_mtime_ns) for path in sorted(tree.rglob("*"))] == before


@pytest.mark.parametrize(
    ("versions", "highest"),
    [
        (("GLIBC_2.4", "GLIBC_2.34", "GLIBC_2.9"), "2.34"),
        (("GLIBC_2.2.5", "GLIBC_2.2"), "2.2.5"),
        (("GLIBC_2.17", "GLIBC_ABI_DT_RELR"), "2.36"),
        (("OPENSSL_3.0.0",), None),
    ],
)
def test_highest_glibc_compares_numbers(versions: tuple[str, ...], highest: str | None) -> None:
    path = PurePosixPath("bin/x")
    needs = (VersionNeed("libc.so.6", versions),)
    facts = {path: ElfFacts(Path("x"), ElfKind.EXECUTABLE, needs_versions=needs)}
    assert highest_glibc(facts) == highest


def test_private_symbols_of_glibc_are_a_problem(tree: Path) -> None:
    code = "int __nss_not_public(void); int f(void) { return __nss_not_public(); }"
    libc = compile_elf(
        tree.parent / "libc.so.6",
        "int __nss_not_public(void) { return 0; }",
        options=[f"-Wl,--version-script={_private_map(tree.parent)}"],
    )
    compile_elf(tree / "lib/slurm/private.so", code, [libc], ["-nostdlib"])
    (problem,) = audited(tree).problems
    assert "GLIBC_PRIVATE" in problem.reason


def _private_map(folder: Path) -> Path:
    script = folder / "private.map"
    script.write_text("GLIBC_PRIVATE { global: *; };", "utf-8")
    return script


def test_versions_above_the_floor_are_a_problem(tree: Path) -> None:
    newest = highest_glibc(scan(tree))
    assert newest is not None
    assert audit(tree, POLICY, BUILD_PATHS, newest).problems == ()
    found = audit(tree, POLICY, BUILD_PATHS, "2.2.4").problems
    assert {problem.path for problem in found} >= {PurePosixPath("bin/tool")}
    assert all(problem.reason.endswith("of libc.so.6, above 2.2.4") for problem in found)


def test_file_for_another_architecture_is_a_problem(tree: Path) -> None:
    """As of a program of the machine that has compiled for another one."""
    here = platform.machine()
    assert audit(tree, POLICY, BUILD_PATHS, architecture=here).problems == ()
    other = {"x86_64": "aarch64"}.get(here, "x86_64")
    found = audit(tree, POLICY, BUILD_PATHS, architecture=other).problems
    assert {problem.path for problem in found} == {*scan(tree)}
    assert {problem.reason for problem in found} == {f"is for {here}, not for {other}"}
    # A machine whose number in ELF files nobody has told us.
    assert audit(tree, POLICY, BUILD_PATHS, architecture="riscv64").problems == ()
    arm = 183
    with (tree / "bin/tool").open("r+b") as file:
        file.seek(18)
        file.write(arm.to_bytes(2, sys.byteorder))
    assert scan(tree)[PurePosixPath("bin/tool")].machine == "aarch64"


def test_function_that_nothing_defines_is_a_problem_unless_the_loading_program_has_it(
    tree: Path,
) -> None:
    """As of a library that was linked to a C library without the function."""
    code = "int newer(void), pam_end(void); int use(void) { return newer() + pam_end(); }"
    for place in ("lib/slurm/late.so", "lib/security/late.so"):
        compile_elf(tree / place, code, options=["-nostdlib"])
    rule = {"symbols": ["pam_*"], "files": ["lib/security/*.so"], "reason": "PAM"}
    policy = POLICY.model_copy(update={"unversioned": (Unversioned.model_validate(rule),)})
    found = audit(tree, policy, BUILD_PATHS).problems
    assert {str(problem) for problem in found} == {
        "lib/slurm/late.so: imports newer, which nothing defines",
        "lib/slurm/late.so: imports pam_end, which nothing defines",
        "lib/security/late.so: imports newer, which nothing defines",
    }
    compile_elf(tree / "lib/libother.so", "int newer(void) { return 1; }")
    found = audit(tree, policy, BUILD_PATHS).problems
    assert [str(problem) for problem in found] == [
        "lib/slurm/late.so: imports pam_end, which nothing defines"
    ]


def test_what_may_be_missing_is_no_problem(tree: Path) -> None:
    code = "__attribute__((weak)) int newer(void); int use(void) { return newer ? newer() : 0; }"
    compile_elf(tree / "lib/slurm/late.so", code, options=["-nostdlib"])
    assert audited(tree).problems == ()


def test_program_with_a_copy_of_environ_shares_it_with_the_c_library(tmp_path: Path) -> None:
    """With a C library whose names of the variable are at several addresses, it does not."""
    code = "extern char **environ; int main(void) { return environ == 0; }"
    assert compile_elf(tmp_path / "real/bin/tool", code).exists()
    assert scan(tmp_path / "real")[PurePosixPath("bin/tool")].symbols.lone_copies == frozenset()
    apart = "char **environ = 0; char **__environ = 0;"
    stub = compile_elf(tmp_path / "stub/libc.so.6", apart, options=["-nostdlib"])
    options = ["-nostdlib", "-Wl,-e,main", "-no-pie", "-fno-pie"]
    compile_elf(tmp_path / "tree/bin/tool", code, [stub], options)
    (found,) = audit(tmp_path / "tree", POLICY, BUILD_PATHS).problems
    assert str(found) == "bin/tool: has a copy of environ, which the C library does not set"


@pytest.mark.parametrize("version", ["GLIBC_ABI_GNU2_TLS", "GLIBC_ABI_DT_RELR", "GLIBC_2.33"])
def test_version_that_an_old_loader_refuses_is_above_the_floor(tree: Path, version: str) -> None:
    need = VersionNeed("libc.so.6", (version,))
    facts = scan(tree)
    path = PurePosixPath("bin/tool")
    subject = Subject(tree, {path: replace(facts[path], needs_versions=(need,))}, POLICY, ())
    assert not any(version in problem.reason for problem in problems(subject))
    found = problems(replace(subject, floor="2.28"))
    assert Problem(path, f"requires {version} of libc.so.6, above 2.28") in found


def test_drivers_define_what_the_plugins_for_their_gpus_import() -> None:
    policy = load_policy()
    for plugin, symbol in (
        ("gpu_nvml", "nvmlInit_v2"),
        ("gpu_rsmi", "rsmi_init"),
        ("gpu_oneapi", "zeInit"),
        ("gpu_oneapi", "zesDeviceEnumFrequencyDomains"),
    ):
        assert policy.is_defined_outside(symbol, PurePosixPath(f"lib/slurm/{plugin}.so"))
        assert not policy.is_defined_outside(symbol, PurePosixPath("lib/slurm/gres_gpu.so"))
    assert not policy.is_defined_outside("zero", PurePosixPath("lib/slurm/gpu_oneapi.so"))


def test_slurmrestd_defines_what_its_plugins_import() -> None:
    policy = load_policy()
    for name, fine in (("openapi_dbv0_0_37", True), ("select_linear", False)):
        path = PurePosixPath(f"lib/slurm/{name}.so")
        assert policy.is_defined_outside("bind_operation_handler", path) is fine


def test_plugin_for_cray_machines_of_old_series_may_lack_what_only_these_compile() -> None:
    policy = load_policy()
    for name, fine in (("switch_cray_aries", True), ("switch_nvidia_imex", False)):
        path = PurePosixPath(f"lib/slurm/{name}.so")
        assert policy.is_defined_outside("print_jobinfo", path) is fine
