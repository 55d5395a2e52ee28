"""Results of configure that a later build uses: as data, and only for the same inputs."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from job_samples import Here, build_here
from plan_samples import sample_plan, sample_settings

from slurm_factory.recipes.configure_results import ConfigureResults

SCRIPT_OF_CONFIGURE = r"""
# This file is a shell script that caches the results of configure
ac_cv_c_bigendian=${ac_cv_c_bigendian=no}
ac_cv_env_CFLAGS_set=set
ac_cv_env_CFLAGS_value='-O1 -Wall -ffile-prefix-map=/srv/build/slurm=/usr/src/slurm'
ac_cv_env_CPP_set=
ac_cv_path_GREP=${ac_cv_path_GREP=/usr/bin/grep}
ac_cv_prog_CPP=${ac_cv_prog_CPP='gcc -E'}
lt_cv_sys_global_symbol_pipe=${lt_cv_sys_global_symbol_pipe='sed -n -e '\''s/^.*$/x/p'\'''}
ac_cv_evil=${ac_cv_evil=$(touch /tmp/evil)}
ac_cv_evil2=`touch /tmp/evil`
ac_cv_evil3='x'; touch /tmp/evil
PATH=/tmp/evil
touch /tmp/evil
"""
KEPT = {
    "ac_cv_c_bigendian": "no",
    "ac_cv_env_CFLAGS_set": "set",
    "ac_cv_env_CFLAGS_value": "-O1 -Wall -ffile-prefix-map=/srv/build/slurm=/usr/src/slurm",
    "ac_cv_env_CPP_set": "",
    "ac_cv_path_GREP": "/usr/bin/grep",
    "ac_cv_prog_CPP": "gcc -E",
}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with build_here(sample_plan(), sample_settings(tmp_path)) as here:
        yield here


def save(here: Here, text: str = SCRIPT_OF_CONFIGURE) -> ConfigureResults:
    cache = here.instance.build_dir / "config.cache"
    Path(cache).write_text(text)
    results = ConfigureResults(here.job, here.instance)
    results.save(cache)
    return results


def saved_file(here: Here) -> Path:
    [path] = here.job.settings.configure_dir.iterdir()
    return path


def test_only_plain_values_are_kept_as_data_and_given_back_as_quoted_text(here: Here) -> None:
    results = save(here)
    assert json.loads(saved_file(here).read_text()) == KEPT
    script = Path(results.load())
    assert script.read_text().splitlines() == [f"{name}='{KEPT[name]}'" for name in sorted(KEPT)]
    assert script.is_relative_to(here.job.workspace.input)


@pytest.mark.parametrize(
    "document",
    [
        "not JSON",
        "[]",
        '{"ac_cv_x": 1}',
        '{"PATH": "/evil"}',
        '{"ac_cv_x": "$(evil)"}',
        '{"ac_cv_x": "a\'b"}',
        '{"ac_cv_x": "a\\nb"}',
    ],
)
def test_saved_file_that_says_anything_else_is_not_used(here: Here, document: str) -> None:
    results = save(here)
    saved_file(here).write_text(document)
    assert results.load() == ""


def test_results_serve_only_the_same_plan_on_the_same_base(here: Here) -> None:
    assert save(here).load()
    other = replace(here.instance, record={"packages": {"gcc:amd64": "other"}})
    minimal = replace(here.job, plan=sample_plan(minimal=True))
    destructive = replace(here.job, plan=replace(here.job.plan, destructive=True))
    assert ConfigureResults(here.job, other).load() == ""
    assert ConfigureResults(minimal, here.instance).load() == ""
    assert ConfigureResults(destructive, here.instance).load() == ""


def test_results_that_cannot_be_kept_do_not_stop_a_build(here: Here) -> None:
    ConfigureResults(here.job, here.instance).save(PurePosixPath("/no/such/file"))
    assert not here.job.settings.configure_dir.exists()


CONFIGURE = r"""#!/bin/sh
[ ! -e config.cache ] || . ./config.cache
echo "${ac_cv_x:-asked}" >> answers
[ "${ac_cv_x:-good}" = good ] || exit 1
echo 'ac_cv_x=${ac_cv_x=good}' > config.cache
"""


@pytest.mark.parametrize(
    ("value", "answers"),
    [("good", ["asked", "good"]), ("stale", ["asked", "stale", "asked"])],
)
def test_configure_asks_again_where_the_results_do_not_serve(
    here: Here, value: str, answers: list[str]
) -> None:
    configure = here.work / "configure"
    configure.write_text(CONFIGURE)
    configure.chmod(0o755)
    environment = dict.fromkeys(("CC", "CFLAGS", "LDFLAGS", "CONFIGURE_ARGUMENTS", "CACHE"), "")
    environment["SOURCE"] = str(here.work)
    here.instance.run_script("configure-slurm.sh", environment, lambda _: None)
    results = save(here, f"ac_cv_x={value}\n")
    (here.work / "config.cache").unlink()
    environment["CACHE"] = results.load()
    here.instance.run_script("configure-slurm.sh", environment, lambda _: None)
    assert (here.work / "answers").read_text().splitlines() == answers


@pytest.mark.skipif(not shutil.which("autoconf"), reason="no autoconf on this machine")
def test_cache_file_of_a_real_configure_is_read(here: Here, tmp_path: Path) -> None:
    source = tmp_path / "real"
    source.mkdir()
    (source / "configure.ac").write_text("AC_INIT([x],[1])\nAC_PROG_CC\nAC_OUTPUT\n")
    subprocess.run(["autoconf"], cwd=source, check=True)
    command = ["./configure", "-C"]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    results = save(here, (source / "config.cache").read_text())
    assert json.loads(saved_file(here).read_text())["ac_cv_c_compiler_gnu"] == "yes"
    (source / "config.cache").write_text(Path(results.load()).read_text())
    done = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    assert "(cached)" in done.stdout
