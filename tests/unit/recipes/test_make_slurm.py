"""Compiling by make-slurm.sh, with Makefiles as Automake writes them."""

import subprocess
from pathlib import Path

from slurm_factory import resources

TOP = """
SUBDIRS = common . daemon disabled-is-not-here
all:
\t@for d in common daemon; do $(MAKE) -C $$d; done
"""
COMMON = """
EXEEXT =
LTLIBRARIES = $(noinst_LTLIBRARIES)
noinst_LTLIBRARIES = libcommon.la plugin-x.la $(am__append_1)
#am__append_1 = off.la
libcommon_la_OBJECTS = $(am__objects_1) c.lo
am__objects_1 = a.lo b.lo
plugin_x_la_OBJECTS = c.lo d.lo
off_la_OBJECTS = e.lo
all:
\t@echo compiled
"""
DAEMON = """
EXEEXT =
PROGRAMS = $(sbin_PROGRAMS)
sbin_PROGRAMS = daemon$(EXEEXT)
daemon_OBJECTS = main.$(OBJEXT)
OBJEXT = o
all:
\t@echo compiled
"""


def test_the_number_of_files_is_that_of_the_objects_that_are_not_switched_off(
    tmp_path: Path,
) -> None:
    for name, content in {"": TOP, "common": COMMON, "daemon": DAEMON}.items():
        directory = tmp_path / "src" / name
        directory.mkdir(exist_ok=True, parents=True)
        (directory / "Makefile").write_text(content)
    environment = {
        "PATH": "/usr/bin:/bin",
        "SOURCE": str(tmp_path),
        "JOBS": "2",
        "PREFIX": "/opt",
        "WITH_PAM": "no",
        "WITH_PERL": "no",
        "MAKE_ARGUMENTS": "SHELL=/bin/sh\nCC=ccache gcc -MD",
    }
    done = subprocess.run(
        ["bash", "-c", resources.script("make-slurm.sh")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "Files to compile: 5"
    assert lines.count("compiled") == 2
    assert done.stderr == ""
