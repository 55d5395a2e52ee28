"""The system recipe: promises kept, libraries fetched, the stub of NVML; on this machine."""

import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from job_samples import Here, build_here
from plan_samples import sample_plan, sample_settings, spack_plan

from slurm_factory import resources
from slurm_factory.constants import INSTANCE_PREFIX
from slurm_factory.exceptions import BuildError, ConfigurationError
from slurm_factory.instances.instance import CommandError, Instance
from slurm_factory.job import Job
from slurm_factory.plan.features import table
from slurm_factory.plan.plan import Patch
from slurm_factory.plan.releases import find_release
from slurm_factory.recipes import patches as patching
from slurm_factory.recipes import system
from slurm_factory.recipes.ccache import ccache_environment, compiler_cache, compiler_cache_use
from slurm_factory.recipes.distro_libraries import InstanceLibraries
from slurm_factory.recipes.feature_checks import check_config_h, require_files
from slurm_factory.recipes.spack.tree import PARTS
from slurm_factory.recipes.system import compiler_environment
from slurm_factory.relocate.elf import scan

PATCH_PROGRAM = pytest.mark.skipif(not shutil.which("patch"), reason="no patch on this machine")
DPKG = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no dpkg on this machine")
CONFIGURE_SAID = (
    "checking for jwt.h... no",
    "configure: WARNING: unable to locate jwt library",
    "checking whether to build slurmrestd... no",
    "configure: WARNING: unable to build man page html files without man2html",
    "configure: WARNING: unable to locate libbpf and/or linux headers (bpf.h)",
)
CONFIG_H = ("/* #undef HAVE_JWT */", "#define HAVE_JSON 1", "#define HAVE_JSON_C_INC 1")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with build_here(sample_plan(gpu=True), sample_settings(tmp_path)) as here:
        yield here


def turned_down(*promised: tuple[str, str]) -> BuildError:
    with pytest.raises(BuildError) as caught:
        check_config_h(promised, CONFIG_H, CONFIGURE_SAID)
    return caught.value


# --- promises -----------------------------------------------------------------------------------


def test_a_feature_that_configure_disabled_fails_the_build_with_its_own_reason() -> None:
    error = turned_down(("restd", "HAVE_JSON"), ("restd", "HAVE_JWT"))
    assert "restd" in error.brief
    assert error.details == "configure: WARNING: unable to locate jwt library"
    assert '--additional-variants "~restd"' in error.resolution


def test_every_feature_that_was_disabled_is_named_once() -> None:
    error = turned_down(("restd", "HAVE_JWT"), ("restd", "HAVE_YAML"), ("cgroup", "HAVE_BPF"))
    assert error.brief.endswith("restd, cgroup.")
    assert "jwt library" in error.details
    assert "libbpf" in error.details
    assert "man2html" not in error.details


def test_without_a_fitting_warning_the_macro_is_named_and_no_other_warning() -> None:
    assert "man2html" not in turned_down(("lz4", "HAVE_LZ4")).details
    with pytest.raises(BuildError, match=r"config\.h lacks HAVE_LZ4"):
        check_config_h([("lz4", "HAVE_LZ4")], CONFIG_H, ["checking for lz4... no"])


def test_a_macro_counts_only_when_it_is_defined_and_only_under_its_whole_name() -> None:
    check_config_h([("restd", "HAVE_JSON")], CONFIG_H, [])
    turned_down(("restd", "HAVE_JSON_C"))
    turned_down(("restd", "HAVE_JWT"))


def test_a_file_that_the_package_promises_and_the_build_left_out_fails_it(tmp_path: Path) -> None:
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/slurmrestd").touch()
    promised = [("restd", "sbin/slurmrestd"), ("lua", "lib/slurm/job_submit_lua.so")]
    require_files(promised[:1], tmp_path)
    with pytest.raises(BuildError, match="lua") as caught:
        require_files(promised, tmp_path)
    assert "lib/slurm/job_submit_lua.so" in caught.value.details


# --- libraries ----------------------------------------------------------------------------------


@DPKG
def test_a_library_is_fetched_with_its_package_version_and_license(here: Here) -> None:
    libraries = InstanceLibraries(here.job, here.instance)
    found = libraries.fetch(["libz.so.1", "libno-such-thing.so.7"])
    assert [*found] == ["libz.so.1"]
    zlib = found["libz.so.1"]
    with zlib.path.open("rb") as file:
        dynamic = ELFFile(file).get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        assert "libz.so.1" in [getattr(tag, "soname", "") for tag in dynamic.iter_tags()]
    assert not zlib.path.is_symlink()
    assert zlib.origin.name.startswith("libz.so.1")
    assert zlib.package == "zlib1g"
    assert re.match(r"(\d+:)?1\.\d", zlib.version)
    assert "zlib" in zlib.licenses[0].read_text(errors="replace").lower()
    package = libraries.packages["zlib1g"]
    assert (package.source, package.version) == ("zlib", zlib.version)


@DPKG
def test_fetching_in_several_rounds_forgets_no_package(here: Here) -> None:
    libraries = InstanceLibraries(here.job, here.instance)
    first = libraries.fetch(["libz.so.1"])["libz.so.1"]
    second = libraries.fetch(["libc.so.6"])["libc.so.6"]
    assert {*libraries.packages} == {"zlib1g", "libc6"}
    assert first.path.exists()
    assert second.path.exists()


@DPKG
def test_the_first_directory_that_is_there_is_fetched_with_its_package(
    here: Here,
) -> None:
    libraries = InstanceLibraries(here.job, here.instance)
    patterns = ["/usr/lib/no-such-*/thing", "/usr/share/doc/zlib1g", "/usr/share/doc/libc6"]
    found = libraries.fetch_directory(patterns)
    assert found is not None
    assert (str(found.origin), found.package) == (patterns[1], "zlib1g")
    assert (found.path / "copyright").is_file()
    assert found.licenses[0].is_file()
    assert libraries.fetch_directory(["/usr/lib/no-such-*/thing"]) is None


@DPKG
def test_common_license_texts_are_fetched_without_links(here: Here) -> None:
    texts = InstanceLibraries(here.job, here.instance).fetch_common_licenses()
    assert "GNU GENERAL PUBLIC LICENSE" in (texts / "GPL").read_text()
    assert not [path for path in texts.iterdir() if path.is_symlink()]


def tool(folder: Path, name: str, said: str) -> None:
    """A program that only says something."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'SAID'\n{said}\nSAID\n")
    path.chmod(0o755)


def fetch_where_ldconfig_says(tmp_path: Path, said: str) -> subprocess.CompletedProcess[str]:
    """Run fetch-libraries.sh for libz.so.1 on an x86_64 machine with this list of libraries."""
    tool(tmp_path / "bin", "ldconfig", said)
    if not (tmp_path / "bin/uname").exists():
        tool(tmp_path / "bin", "uname", "x86_64")
    command = ["bash", "-c", resources.script("fetch-libraries.sh")]
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {"PATH": path, "SONAMES": "libz.so.1", "OUT": str(tmp_path / "out")}
    environment |= {"ARCHITECTURE": "x86_64", "TRIPLET": "x86_64-linux-gnu"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@DPKG
@pytest.mark.parametrize("class_", ["libc6,x86-64", "libc6,x86-64, OS ABI: Linux 3.2.0"])
def test_libraries_of_other_machines_and_newer_processors_are_passed_over(
    tmp_path: Path, class_: str
) -> None:
    copyright_file = Path("/usr/share/doc/zlib1g/copyright")
    said = (
        "\tlibz.so.1 (libc6) => /nowhere/i386/libz.so.1\n"
        "\tlibz.so.1 (libc6,x32) => /nowhere/x32/libz.so.1\n"
        '\tlibz.so.1 (libc6,x86-64, hwcap: "x86-64-v3") => /nowhere/v3/libz.so.1\n'
        f"\tlibz.so.1 ({class_}) => {copyright_file}"
    )
    done = fetch_where_ldconfig_says(tmp_path, said)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/lib/libz.so.1").read_bytes() == copyright_file.read_bytes()


@DPKG
def test_libraries_for_another_architecture_are_found_though_ldconfig_leaves_them_out(
    tmp_path: Path,
) -> None:
    tool(tmp_path / "bin", "uname", "aarch64")
    done = fetch_where_ldconfig_says(tmp_path, "")
    assert done.returncode == 0, done.stderr
    real = Path("/usr/lib/x86_64-linux-gnu/libz.so.1")
    assert (tmp_path / "out/lib/libz.so.1").read_bytes() == real.read_bytes()
    listed = (tmp_path / "out/libraries.tsv").read_text().split("\t")
    assert (listed[0], listed[2], listed[4]) == ("libz.so.1", "zlib1g", "amd64")


@DPKG
def test_a_library_of_no_package_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "libz.so.1").touch()
    said = f"\tlibz.so.1 (libc6,x86-64) => {tmp_path}/libz.so.1"
    done = fetch_where_ldconfig_says(tmp_path, said)
    assert done.returncode == 1
    assert done.stderr == f"E: {tmp_path}/libz.so.1 does not belong to a package\n"


@DPKG
def test_a_directory_of_no_package_is_one_clear_error(here: Here, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/a.so").touch()
    with pytest.raises(CommandError) as caught:
        InstanceLibraries(here.job, here.instance).fetch_directory([str(tmp_path / "plugins")])
    assert caught.value.details == f"E: {tmp_path}/plugins/a.so does not belong to a package"


# --- the stub of NVML ---------------------------------------------------------------------------

HEADER = """\
#define NVML_API_VERSION            12
#define nvmlInit                                nvmlInit_v2
typedef struct nvmlDevice_st* nvmlDevice_t;
nvmlReturn_t DECLDIR nvmlInit_v2(void);
nvmlReturn_t DECLDIR nvmlInitWithFlags(unsigned int flags);
nvmlReturn_t  DECLDIR  nvmlShutdown (void);
const DECLDIR char* nvmlErrorString(nvmlReturn_t result);
nvmlReturn_t DECLDIR nvmlDeviceGetHandleByIndex_v2(unsigned int index,
                                                   nvmlDevice_t *device);
// nvmlReturn_t DECLDIR nvmlCommentedOut(void);
"""


def exported(library: Path) -> set[str]:
    command = ["nm", "-D", "--defined-only", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.splitlines()}


def make_stub(here: Here, header: str) -> Path:
    wheel = here.work / "nvml.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(system.NVML_HEADER, header)
    system._make_nvml_stub(here.job, here.instance, wheel)
    return Path(here.instance.build_dir / "nvml/lib/stubs/libnvidia-ml.so")


def test_the_stub_has_every_function_that_the_header_declares(here: Here) -> None:
    many = "".join(f"nvmlReturn_t DECLDIR nvmlMore{n}(int x);\n" for n in range(380))
    stub = make_stub(here, HEADER.replace("nvmlShutdown (", "nvmlShutdown(") + many)
    names = exported(stub)
    assert len({name for name in names if name.startswith("nvmlMore")}) == 380
    assert {"nvmlInit_v2", "nvmlShutdown", "nvmlDeviceGetHandleByIndex_v2"} <= names
    assert "nvmlErrorString" in names
    assert "nvmlCommentedOut" not in names
    assert (Path(here.instance.build_dir) / "nvml/include/nvml.h").read_text()


def test_a_program_can_be_linked_with_the_stub_as_configure_does(here: Here) -> None:
    stub = make_stub(here, HEADER)
    source = here.work / "conftest.c"
    source.write_text("int nvmlInit_v2(void); int main(void) { return nvmlInit_v2(); }")
    program = here.work / "conftest"
    subprocess.run(["gcc", source, "-o", program, f"-L{stub.parent}", "-lnvidia-ml"], check=True)
    with program.open("rb") as file:
        dynamic = ELFFile(file).get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        needed = [getattr(tag, "needed", "") for tag in dynamic.iter_tags()]
    assert "libnvidia-ml.so.1" in needed


# --- steps --------------------------------------------------------------------------------------


def test_no_path_of_this_build_reaches_the_object_files(here: Here) -> None:
    source = here.instance.build_dir / "slurm-24-11-5-1"
    environment = compiler_environment(here.job, source)
    assert f"-ffile-prefix-map={source}=/usr/src/slurm" in environment["CFLAGS"]
    assert environment["SOURCE_DATE_EPOCH"] == str(here.job.plan.release.epoch)
    assert ccache_environment(here.job, here.instance, source)["CCACHE_BASEDIR"] == str(source)


def test_what_ccache_logged_is_counted() -> None:
    use = compiler_cache_use(
        "# a.c\ndirect_cache_hit\n# b.c\npreprocessed_cache_hit\n# c.c\ncache_miss\n"
        "# conftest.c\nautoconf_test\n# cache_miss\n"
    )
    assert (use.hits, use.misses) == (2, 1)


def test_compiler_cache_serves_only_builds_of_the_same_sources(here: Here) -> None:
    spack, plan = spack_plan(), here.job.plan
    assert spack.spack is not None
    site = replace(spack.spack, buildcache="spack-buildcache-site/0123")
    plans = [
        plan,
        replace(plan, release=find_release("25.05.8")),
        replace(plan, patches=()),
        replace(plan, destructive=True),
        spack,
        replace(spack, spack=site),
    ]
    caches = [compiler_cache(replace(here.job, plan=each)) for each in plans]
    assert len({*caches}) == len(plans)
    assert {path.parent for path in caches} == {here.job.settings.ccache_dir}
    minimal = replace(here.job, plan=sample_plan(minimal=True))
    assert compiler_cache(minimal) == compiler_cache(here.job)


def fake_source(here: Here, files: dict[str, str]) -> Path:
    """A tag archive with a configure of our own, patched by nothing."""
    top = here.work / "slurm-slurm-24-11-5-1"
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    archive = here.job.settings.source_cache_dir / "slurm.tar.gz"
    command = ["tar", "-czf", str(archive), "-C", str(here.work), top.name]
    subprocess.run(command, check=True)
    return archive


CONFIGURE = """\
#!/bin/sh
printf '%s\\n' "$@" > arguments
echo "configure: WARNING: unable to locate jwt library" >&2
echo '#define HAVE_JSON 1' > config.h
echo 'S["x"]="y"' > config.status
"""


def test_configure_gets_its_arguments_unbroken_and_its_reason_reaches_the_user(
    here: Here,
) -> None:
    source = here.instance.build_dir / "slurm"
    configure = Path(source / "configure")
    configure.parent.mkdir()
    configure.write_text(CONFIGURE)
    configure.chmod(0o755)
    with pytest.raises(BuildError) as caught:
        system._configure(here.job, here.instance, source)
    assert "configure: WARNING: unable to locate jwt library" in caught.value.details
    arguments = (Path(source) / "arguments").read_text().splitlines()
    wanted = [a.replace("{build}", str(source.parent)) for a in here.job.plan.configure_arguments]
    assert arguments == ["--config-cache", *wanted]


@pytest.mark.parametrize("step", ["_configure", "_make"])
def test_after_a_failure_configs_log_and_header_lie_beside_the_build_log(
    here: Here, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    logs = here.job.workspace.log.parent
    logs.mkdir(parents=True)

    def fail(_: Job, __: Instance, source: PurePosixPath) -> None:
        Path(source).mkdir()
        (Path(source) / "config.log").write_text("what configure tried")
        (Path(source) / "config.h").write_text(CONFIG_H[1])
        raise CommandError(step, 1, ["error: of the compiler"])

    for name in ("_unpack", "_make_nvml_stub", "_configure", "_make"):
        monkeypatch.setattr(system, name, fail if name == step else lambda *_: None)
    with pytest.raises(CommandError, match="of the compiler"):
        system.build(here.job, here.instance)
    assert (logs / "config.log").read_text() == "what configure tried"
    assert (logs / "config.h").read_text() == CONFIG_H[1]


def test_a_compilation_fails_because_of_the_compilers_first_error(here: Here) -> None:
    source = here.work / "slurm"
    (source / "src").mkdir(parents=True)
    (source / "src" / "broken.c").write_text("int one(void) { return missing; }\n")
    (source / "src" / "Makefile").write_text("all:\n\tgcc -c -o broken.o broken.c\n")
    with pytest.raises(BuildError) as caught:
        system._make(here.job, here.instance, PurePosixPath(source))
    assert caught.value.brief.startswith("make-slurm.sh failed")
    assert re.match(r"src/broken\.c:1:\d+: error: .missing. undeclared", caught.value.details)
    (source / "src" / "Makefile").write_text("all:\n\t@echo 'ld: error: no such library'; false\n")
    with pytest.raises(CommandError, match="make"):
        system._make(here.job, here.instance, PurePosixPath(source))


def test_evidence_that_cannot_be_kept_does_not_hide_the_error(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Job, __: Instance, source: PurePosixPath) -> None:
        Path(source).mkdir()
        (Path(source) / "config.log").touch()
        raise CommandError("configure", 1, ["error: of the compiler"])

    for name in ("_unpack", "_make_nvml_stub"):
        monkeypatch.setattr(system, name, lambda *_: None)
    monkeypatch.setattr(system, "_configure", fail)
    with pytest.raises(CommandError, match="of the compiler"):
        system.build(here.job, here.instance)
    assert not here.job.settings.logs_dir.exists()


def test_an_argument_of_configure_may_hold_spaces_and_wildcards(here: Here) -> None:
    configure = here.work / "configure"
    configure.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    configure.chmod(0o755)
    environment = dict.fromkeys(("CC", "CFLAGS", "LDFLAGS"), "")
    environment |= {"SOURCE": str(here.work), "CONFIGURE_ARGUMENTS": "--with-x=a b\n*"}
    environment |= {"CACHE": "", "OUTCOME": ""}
    for name in ("config.h", "config.status"):
        (here.work / name).write_text('S["x"]="y"\n')
    lines: list[str] = []
    here.instance.run_script("configure-slurm.sh", environment, lines.append)
    assert lines == ["<--config-cache><--with-x=a b><*>"]


MODULES = ("contribs/nss_slurm", "contribs/pam", "contribs/pam_slurm_adopt")


def fake_compiled(source: Path) -> None:
    """What install-slurm.sh expects of a compiled source, with nothing in it."""
    makefile = "SUBDIRS = none\ninstall install-pkgincludeHEADERS:\n"
    for directory in ("", "src", "src/plugins", *MODULES):
        (source / directory).mkdir(parents=True, exist_ok=True)
        (source / directory / "Makefile").write_text(makefile)
    for name in ("COPYING", "DISCLAIMER", "LICENSE.OpenSSL"):
        (source / name).touch()
    completions = source / "contribs/slurm_completion_help/slurm_completion.sh"
    completions.parent.mkdir()
    completions.write_text("complete -o nospace -F _srun srun\n")


def test_both_recipes_take_every_program_of_munge_that_is_promised() -> None:
    munge = next(feature for feature in table() if feature.name == "munge")
    programs = {file for file in munge.files if file.partition("/")[0] in {"bin", "sbin"}}
    assert programs == set(PARTS["munge"])
    listed = re.search(r"for program in (.*); do", resources.script("install-slurm.sh"))
    assert listed is not None
    assert programs == set(listed[1].split())


@pytest.mark.skipif(not shutil.which("munged"), reason="no munge on this machine")
@DPKG
def test_programs_that_are_not_slurms_own_are_listed_with_their_package(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = here.instance.build_dir / "slurm"
    fake_compiled(Path(source))
    libraries = Path(here.instance.build_dir) / "stage" / str(INSTANCE_PREFIX).lstrip("/") / "lib"
    libraries.mkdir(parents=True)
    (libraries / "libnss_slurm.so.2").touch()
    monkeypatch.setattr(system, "require_files", lambda *_: None)
    tree, installed = system._install(here.job, here.instance, source)
    programs = {str(path) for path in scan(tree)}
    assert programs == {str(path) for path in installed} != set()
    assert {(package.name, package.source) for package in installed.values()} == {
        ("munge", "munge")
    }


def unpack(
    here: Here, patch: str, monkeypatch: pytest.MonkeyPatch, planned: str | None = None
) -> Path:
    patches = here.work / "own-patches"
    patches.mkdir()
    (patches / "own.patch").write_text(patch)
    monkeypatch.setattr(patching, "patches_dir", lambda: patches)
    checksum = hashlib.sha256((planned or patch).encode()).hexdigest()
    plan = replace(here.job.plan, patches=(Patch("own.patch", checksum),))
    archive = fake_source(here, {"src/a.c": "".join(f"line {n}\n" for n in range(20))})
    source = here.instance.build_dir / "slurm-24-11-5-1"
    job = replace(here.job, plan=plan)
    files = patching.patch_files(plan, job.settings)
    system._unpack(job, here.instance, archive, source, files)
    return Path(source)


PATCH = """\
--- a/src/a.c
+++ b/src/a.c
@@ -{line},5 +{line},5 @@
 line {a}
 {context}
-line 10
+line ten
 line 11
 line 12
"""


@PATCH_PROGRAM
def test_a_patch_that_fits_is_applied(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    source = unpack(here, PATCH.format(line=9, a=8, context="line 9"), monkeypatch)
    assert "line ten\n" in (source / "src/a.c").read_text()


def test_a_patch_that_has_changed_since_the_build_was_planned_is_not_applied(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BuildError, match=r"own\.patch is not the patch") as caught:
        unpack(here, PATCH.format(line=9, a=8, context="line 9"), monkeypatch, planned="another")
    assert "upgrade" in caught.value.details


@PATCH_PROGRAM
def test_a_patch_that_only_nearly_fits_fails_the_build(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"own\.patch does not apply") as caught:
        unpack(here, PATCH.format(line=9, a=7, context="line 9"), monkeypatch)
    assert "hunk 1 of src/a.c, at line 9" in caught.value.details


@PATCH_PROGRAM
def test_a_patch_of_a_file_that_is_not_there_fails_the_build(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PATCH.format(line=9, a=8, context="line 9").replace("a.c", "b.c")
    with pytest.raises(ConfigurationError, match=r"own\.patch does not apply") as caught:
        unpack(here, text, monkeypatch)
    assert "src/b.c, which this release does not have" in caught.value.details


@PATCH_PROGRAM
def test_a_patch_that_is_there_already_is_never_reversed(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    reversed_patch = PATCH.format(line=9, a=8, context="line 9").replace("-line 10", "-line ten")
    reversed_patch = reversed_patch.replace("+line ten", "+line 10")
    with pytest.raises(ConfigurationError, match=r"own\.patch does not apply"):
        unpack(here, reversed_patch, monkeypatch)
