"""What a live screen shows of a compilation, from lines that make and libtool have printed."""

from pathlib import PurePosixPath

import pytest
from reporter_samples import Listener

from slurm_factory.output.records import SourceError
from slurm_factory.recipes.compile_progress import CompileProgress

SOURCE = PurePosixPath("/srv/build/slurm-24-11-5-1")
FLAGS = "-MD -DHAVE_CONFIG_H -I. -O1 -pthread"
ENTER = f"make[2]: Entering directory '{SOURCE}/src/api'"
LIBTOOL = f"/bin/sh ../../libtool  --tag=CC   --mode=compile ccache gcc {FLAGS} -c -o"
PLAIN = f"ccache gcc {FLAGS} -c -o"


def progress(*lines: str) -> Listener:
    reporter = Listener()
    take = CompileProgress(reporter, SOURCE)
    for line in lines:
        take(line)
    assert reporter.lines == [*lines], "the log has every line"
    return reporter


def test_each_object_counts_once_and_its_file_is_named_from_the_top_of_the_source() -> None:
    passed = progress(
        "Files to compile: 2",
        ENTER,
        f"{LIBTOOL} allocate.lo allocate.c",
        f"libtool: compile:  ccache gcc {FLAGS} -c allocate.c  -fPIC -DPIC -o .libs/allocate.o",
        f"make[2]: Entering directory '{SOURCE}/src/sacct'",
        f"{PLAIN} options.o options.c",
    ).passed
    assert list(dict.fromkeys(passed)) == [
        "1 of 2 files: src/api/allocate.c",
        "2 of 2 files: src/sacct/options.c",
    ]
    assert passed[-1] == "2 of 2 files: src/sacct/options.c"


def test_a_command_of_libtool_does_not_cover_the_progress_again() -> None:
    passed = progress(ENTER, f"{LIBTOOL} a.lo a.c", "libtool: link: gcc -shared", "echo x").passed
    assert passed == ["1 of 1 files: src/api/a.c"] * 3


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("`test -f 'sub/a.c' || echo './'`sub/a.c", "src/api/sub/a.c"),
        ("../common/a.c", "src/common/a.c"),
        ("/usr/src/a.c", "/usr/src/a.c"),
    ],
)
def test_files_of_other_directories_are_named_where_they_are(word: str, name: str) -> None:
    assert progress(ENTER, f"{PLAIN} a.o {word}").passed == [f"1 of 1 files: {name}"]


def test_more_files_than_were_announced_are_not_a_mistake_and_none_no_progress() -> None:
    assert progress("Files to compile: 1", "checking", "Making all in api").passed == []
    many = progress("Files to compile: 1", *[f"{PLAIN} {n}.o {n}.c" for n in "ab"]).passed
    assert many[-1] == "2 of 2 files: b.c"


def test_the_first_error_of_the_compiler_is_shown_with_its_place_in_the_source() -> None:
    first = SourceError("src/common/log.c", 12, 3, "expected ‘;’ before ‘}’ token")
    take = CompileProgress(reporter := Listener(), SOURCE)
    for line in (
        ENTER,
        f"{LIBTOOL} allocate.lo allocate.c",
        "../common/log.h:7:1: warning: 'old' is deprecated",
        "../common/log.c:12:3: \x1b[31merror\x1b[m: expected ‘;’ before ‘}’ token",
        "allocate.c:1:10: fatal error: x.h: No such file or directory",
        "make[3]: *** [Makefile:679: allocate.lo] Error 1",
    ):
        take(line)
    assert reporter.source_errors == [first]
    assert take.error == first
    assert str(first) == "src/common/log.c:12:3: error: expected ‘;’ before ‘}’ token"


@pytest.mark.parametrize(
    "line",
    [
        "gcc: fatal error: Killed signal terminated program cc1",
        "collect2: error: ld returned 1 exit status",
        "make[2]: *** [Makefile:5: all] Error 2",
        "a.c:5: note: error: no",
        "a.c:99999999999: error: no",
    ],
)
def test_what_names_no_line_of_a_source_is_no_error_of_a_compiler(line: str) -> None:
    assert progress(ENTER, line).source_errors == []
