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
x_ac_cv_pmix_dir=${x_ac_cv_pmix_dir=/usr}
lt_cv_sys_global_symbol_pipe=${lt_cv_sys_global_symbol_pipe='sed -n -e '\''s/^.*$/x/p'\'''}
ac_cv_evil=${ac_cv_evil=$(touch /tmp/evil)}
ac_cv_evil2=`touch /tmp/evil`
ac_cv_evil3='x'; touch /tmp/evil
PATH=/tmp/evil
touch /tmp/evil
"""
OUTCOME = "0123456789abcdef" * 4
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


def save(here: Here, text: str = SCRIPT_OF_CONFIGURE, outcome: str = OUTCOME) -> ConfigureResults:
    Path(here.instance.build_dir / "config.cache").write_text(text)
    Path(here.instance.build_dir / "config.outcome").write_text(f"{outcome}\n")
    results = ConfigureResults(here.job, here.instance)
    results.save(here.instance.build_dir)
    return results


def saved_file(here: Here) -> Path:
    [path] = here.job.settings.configure_dir.iterdir()
    return path


def test_only_plain_values_are_kept_as_data_and_given_back_as_quoted_text(here: Here) -> None:
    results = save(here)
    assert json.loads(saved_file(here).read_text()) == {"outcome": OUTCOME, "results": KEPT}
    parameters = results.parameters()
    script = Path(parameters["CACHE"])
    assert script.read_text().splitlines() == [f"{name}='{KEPT[name]}'" for name in sorted(KEPT)]
    assert script.is_relative_to(here.job.workspace.input)
    assert parameters["OUTCOME"] == OUTCOME


@pytest.mark.parametrize(
    "document",
    [
        "not JSON",
        "[]",
        {"outcome": OUTCOME},
        {"outcome": "$(evil)", "results": {}},
        {"outcome": OUTCOME, "results": {"ac_cv_x": 1}},
        {"outcome": OUTCOME, "results": {"PATH": "/evil"}},
        {"outcome": OUTCOME, "results": {"ac_cv_x": "$(evil)"}},
        {"outcome": OUTCOME, "results": {"ac_cv_x": "a'b"}},
        {"outcome": OUTCOME, "results": {"ac_cv_x": "a\nb"}},
        {"outcome": OUTCOME, "results": {"ac_cv_x": "a\n"}},
        {"outcome": OUTCOME, "results": {"ac_cv_x\n": "a"}},
    ],
)
def test_saved_file_that_says_anything_else_is_not_used(here: Here, document: object) -> None:
    results = save(here)
    text = document if isinstance(document, str) else json.dumps(document)
    saved_file(here).write_text(text)
    assert results.parameters() == {"CACHE": "", "OUTCOME": ""}


@pytest.mark.parametrize("outcome", ["", "$(evil)", "0" * 63])
def test_results_without_a_checksum_of_their_outcome_are_not_kept(here: Here, outcome: str) -> None:
    save(here, outcome=outcome)
    assert not here.job.settings.configure_dir.exists()


def test_results_serve_only_the_same_plan_on_the_same_base(here: Here) -> None:
    assert save(here).parameters()["CACHE"]
    other = replace(here.instance, record={"packages": {"gcc:amd64": "other"}})
    minimal = replace(here.job, plan=sample_plan(minimal=True))
    destructive = replace(here.job, plan=replace(here.job.plan, destructive=True))
    assert ConfigureResults(here.job, other).parameters()["CACHE"] == ""
    assert ConfigureResults(minimal, here.instance).parameters()["CACHE"] == ""
    assert ConfigureResults(destructive, here.instance).parameters()["CACHE"] == ""


def test_results_that_cannot_be_kept_do_not_stop_a_build(here: Here) -> None:
    ConfigureResults(here.job, here.instance).save(PurePosixPath("/no/such/directory"))
    assert not here.job.settings.configure_dir.exists()


CONFIGURE = r"""#!/bin/sh
[ ! -e config.cache ] || . ./config.cache
echo "${ac_cv_x:-asked}" >> answers
[ "${ac_cv_x:-good}" != fails ] || exit 1
echo "#define X ${ac_cv_x:-good}" > config.h
echo 'S["x"]="y"' > config.status
echo 'ac_cv_x=${ac_cv_x=good}' > config.cache
"""


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ("good", ["asked", "good"]),
        ("fails", ["asked", "fails", "asked"]),
        ("another outcome", ["asked", "another outcome", "asked"]),
    ],
)
def test_configure_asks_again_where_the_results_do_not_serve(
    here: Here, value: str, answers: list[str]
) -> None:
    source = Path(here.instance.build_dir) / "slurm"
    source.mkdir()
    (source / "configure").write_text(CONFIGURE)
    (source / "configure").chmod(0o755)
    environment = dict.fromkeys(("CC", "CFLAGS", "LDFLAGS", "CONFIGURE_ARGUMENTS"), "")
    environment["SOURCE"] = str(source)
    none = {"CACHE": "", "OUTCOME": ""}
    here.instance.run_script("configure-slurm.sh", environment | none, lambda _: None)
    outcome = (source / "config.outcome").read_text().strip()
    results = save(here, f"ac_cv_x='{value}'\n", outcome)
    (source / "config.cache").unlink()
    parameters = environment | results.parameters()
    here.instance.run_script("configure-slurm.sh", parameters, lambda _: None)
    assert (source / "answers").read_text().splitlines() == answers
    assert (source / "config.outcome").read_text().strip() == outcome


@pytest.mark.skipif(not shutil.which("autoconf"), reason="no autoconf on this machine")
def test_cache_file_of_a_real_configure_is_read(here: Here, tmp_path: Path) -> None:
    source = tmp_path / "real"
    source.mkdir()
    (source / "configure.ac").write_text("AC_INIT([x],[1])\nAC_PROG_CC\nAC_OUTPUT\n")
    subprocess.run(["autoconf"], cwd=source, check=True)
    command = ["./configure", "-C"]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    results = save(here, (source / "config.cache").read_text())
    saved = json.loads(saved_file(here).read_text())["results"]
    assert saved["ac_cv_c_compiler_gnu"] == "yes"
    (source / "config.cache").write_text(Path(results.parameters()["CACHE"]).read_text())
    done = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    assert "(cached)" in done.stdout
