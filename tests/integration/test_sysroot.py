"""A real sysroot: programs made with it run here, and the audit finds what an older glibc lacks."""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from shutil import copy

import pytest

from slurm_factory import resources
from slurm_factory.fetch.sources import fetch
from slurm_factory.fetch.upstream import zig_source
from slurm_factory.plan import glibc
from slurm_factory.relocate.audit import audit
from slurm_factory.relocate.policy import load_policy

pytestmark = pytest.mark.integration

FLOOR = "2.28"
PROGRAM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int built;
__attribute__((constructor)) static void build(void) { built = 1; }
__attribute__((destructor)) static void destroy(void) { puts("destroyed"); }
static void leave(void) { puts("left"); }
static void *run(void *argument) { return argument; }

int main(int count, char **arguments)
{
    struct stat status;
    pthread_t thread;
    void *result;

    if (atexit(leave) || pthread_atfork(NULL, NULL, NULL))
        return 1;
    if (!built || !environ || !getenv("PATH") || !program_invocation_short_name)
        return 2;
    if (stat("/etc/passwd", &status) || !S_ISREG(status.st_mode) || lstat(".", &status))
        return 3;
    if (stat("/missing", &status) != -1 || errno != ENOENT)
        return 4;
    if (pthread_create(&thread, NULL, run, arguments) || pthread_join(thread, &result))
        return 5;
    printf("%d %.2f\n", result == arguments, sqrt(count * 4.0));
    return 0;
}
"""
CXX_PROGRAM = r"""
#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>

int main()
{
    auto number = std::make_shared<int>(std::abs(-3));
    try {
        throw std::runtime_error("caught");
    } catch (const std::exception &error) {
        std::cout << *number << " " << error.what() << "\n";
    }
}
"""
WAITING = r"""
#include <chrono>
#include <condition_variable>
#include <iostream>
#include <mutex>
#include <shared_mutex>

int main()
{
    std::timed_mutex mutex;
    std::shared_timed_mutex shared;
    std::condition_variable_any changed;
    auto moment = std::chrono::milliseconds(1);
    std::unique_lock<std::timed_mutex> lock(mutex, moment);
    std::cout << lock.owns_lock() << shared.try_lock_for(moment)
              << (changed.wait_for(lock, moment) == std::cv_status::timeout) << "\n";
}
"""
SPEEDS = r"""
#include <stdio.h>
#include <termios.h>

int main(void)
{
    struct termios terminal = {0};

    if (cfsetospeed(&terminal, B9600) || cfgetospeed(&terminal) != B9600)
        return 1;
    printf("%d %d\n", cfsetispeed(&terminal, B115200), (int)(terminal.c_cflag & CBAUD));
    return 0;
}
"""
FIRST = r"""
#include <stdio.h>

static void first(void) { puts("first"); }
__attribute__((section(".preinit_array"), used)) static void (*run)(void) = first;
int main(void) { puts("main"); return 0; }
"""
TOTALORDER = r"""
#define _GNU_SOURCE
#define __STDC_WANT_IEC_60559_BFP_EXT_C2X__
#include <math.h>

int own(const double *one, const double *two) { return totalorder(one, two); }
"""
ENVIRON = "#include <unistd.h>\nextern char **environ; int main(void) { return environ == NULL; }"
APART = """
char **environ, **__environ;
int __libc_start_main(void) { return 0; }
"""
MOUNTS = r"""
#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>

int main(void)
{
    int failed = fsconfig(-1, FSCONFIG_SET_STRING, "a", "b", 0);
    printf("%d %d\n", failed, errno == EBADF || errno == EINVAL);
    return 0;
}
"""
GETTID = "#define _GNU_SOURCE\n#include <unistd.h>\nint own(void) { return gettid(); }"


@pytest.fixture(scope="session")
def sysroot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the script of a base instance, on this machine."""
    made = tmp_path_factory.mktemp("made")
    wheel = fetch(zig_source(platform.machine()), made / "cache")
    directory = made / "sysroot"
    files = {key: resources.sysroot_file(name) for key, name in glibc.FILES.items()}
    given = {
        "GLIBC": FLOOR,
        "SYSROOT": str(directory),
        "ZIG_WHEEL": copy(wheel, made),
        **files,
    }
    script = ["bash", "-c", resources.script(glibc.SCRIPT)]
    done = subprocess.run(
        script, env={**os.environ, **given}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def compile_with(
    compiler: Path | str, code: str, target: Path, options: Sequence[str] = ()
) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    language = "c++" if str(compiler).endswith("g++") else "c"
    subprocess.run(
        [compiler, "-x", language, "-", "-x", "none", *options, "-o", target],
        input=code.encode(),
        check=True,
    )
    return target


def output_of(command: Sequence[Path | str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def problems(tree: Path) -> list[str]:
    return [str(problem) for problem in audit(tree, load_policy(), (), FLOOR).problems]


@pytest.mark.parametrize(
    "options",
    [
        ("-O0",),
        ("-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-Wl,-z,relro,-z,now"),
        ("-O2", "-flto"),
        ("-no-pie",),
    ],
    ids=lambda options: options[-1],
)
def test_programs_run_here_and_need_no_newer_glibc(
    sysroot: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    program = compile_with(
        sysroot / "bin/gcc", PROGRAM, tmp_path / "bin/program", [*options, "-pthread", "-lm"]
    )
    assert output_of([program]).split() == ["1", "2.00", "left", "destroyed"]
    assert problems(tmp_path) == []


def test_programs_in_other_languages_run_too(sysroot: Path, tmp_path: Path) -> None:
    program = compile_with(sysroot / "bin/g++", CXX_PROGRAM, tmp_path / "bin/program")
    assert output_of([program]) == "3 caught\n"
    assert problems(tmp_path) == []


def test_what_a_newer_libstdcxx_waits_with_is_not_used(sysroot: Path, tmp_path: Path) -> None:
    program = compile_with(
        sysroot / "bin/g++", WAITING, tmp_path / "bin/program", ["-pthread", "-std=c++17"]
    )
    assert output_of([program]) == "111\n"
    assert problems(tmp_path) == []


def test_speeds_of_terminals_are_those_of_the_old_functions(sysroot: Path, tmp_path: Path) -> None:
    ours = compile_with(sysroot / "bin/gcc", SPEEDS, tmp_path / "bin/program")
    plain = compile_with("gcc", SPEEDS, tmp_path / "plain")
    assert output_of([ours]) == output_of([plain])


def test_functions_before_the_constructors_run_once(sysroot: Path, tmp_path: Path) -> None:
    program = compile_with(sysroot / "bin/gcc", FIRST, tmp_path / "bin/program")
    assert output_of([program]) == "first\nmain\n"


def test_function_that_was_called_in_another_way_is_not_there(
    sysroot: Path, tmp_path: Path
) -> None:
    options = ["-shared", "-fPIC", "-lm"]
    compile_with(sysroot / "bin/gcc", TOTALORDER, tmp_path / "lib/slurm/own.so", options)
    assert problems(tmp_path) == ["lib/slurm/own.so: imports totalorder, which nothing defines"]


def test_function_of_a_newer_glibc_is_found(sysroot: Path, tmp_path: Path) -> None:
    options = ["-shared", "-fPIC"]
    compile_with(sysroot / "bin/gcc", GETTID, tmp_path / "lib/slurm/own.so", options)
    assert problems(tmp_path) == ["lib/slurm/own.so: imports gettid, which nothing defines"]


def test_mount_api_of_the_headers_is_that_of_the_kernel(sysroot: Path, tmp_path: Path) -> None:
    program = compile_with(sysroot / "bin/gcc", MOUNTS, tmp_path / "bin/program")
    assert output_of([program]) == "-1 1\n"
    assert problems(tmp_path) == []


def test_file_of_another_compiler_is_found(tmp_path: Path) -> None:
    compile_with("gcc", PROGRAM, tmp_path / "bin/program", ["-pthread", "-lm"])
    (found,) = problems(tmp_path)
    assert found.startswith("bin/program: requires GLIBC_2.3")
    assert found.endswith("of libc.so.6, above 2.28")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="programs of others have no copies")
def test_program_whose_environ_would_be_empty_is_found(sysroot: Path, tmp_path: Path) -> None:
    good = compile_with(sysroot / "bin/gcc", ENVIRON, tmp_path / "good/bin/program")
    assert subprocess.run([good], check=False).returncode == 0
    assert problems(tmp_path / "good") == []
    # As zig writes the stub: the names of the variable are at several addresses.
    versions = tmp_path / "versions"
    versions.write_text("GLIBC_2.2.5 { global: *; };")
    options = ["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libc.so.6"]
    options.append(f"-Wl,--version-script={versions}")
    stub = compile_with("gcc", APART, tmp_path / "libc.so.6", options)
    start = [sysroot / "usr/lib" / name for name in ("crt1.o", "crti.o", "crtn.o")]
    nonshared = sysroot / "usr/lib/libc_nonshared.a"
    linked = ["-nostdlib", *map(str, start), str(stub), str(nonshared)]
    bad = compile_with(sysroot / "bin/gcc", ENVIRON, tmp_path / "bad/bin/program", linked)
    assert subprocess.run([bad], check=False).returncode == 1
    assert problems(tmp_path / "bad") == [
        "bin/program: has a copy of environ, which the C library does not set"
    ]


def test_variables_have_the_same_names_as_in_the_glibc_of_this_machine(sysroot: Path) -> None:
    """Names at one address there are names at one address in the sysroot."""

    def names(library: Path) -> dict[str, str]:
        command = ["readelf", "--dyn-syms", "--wide", str(library)]
        rows = [line.split() for line in output_of(command).splitlines()]
        return {
            row[7].partition("@")[0]: row[1]
            for row in rows
            if len(row) == 8 and row[3] == "OBJECT" and "@@" in row[7]
        }

    real = Path(output_of(["gcc", "-print-file-name=libc.so.6"]).strip())
    ours, theirs = names(sysroot / "usr/lib/libc.so.6"), names(real)
    shared = ours.keys() & theirs.keys()
    pairs = {(one, two) for one in shared for two in shared if theirs[one] == theirs[two]}
    assert ("environ", "__environ") in pairs
    assert {(one, two) for one, two in pairs if ours[one] != ours[two]} == set()


def test_sysroot_is_where_the_compilers_look_first(sysroot: Path) -> None:
    found = output_of([str(sysroot / "bin/gcc"), "-print-file-name=libc.so"]).strip()
    assert PurePosixPath(found) == PurePosixPath(sysroot / "usr/lib/libc.so")
