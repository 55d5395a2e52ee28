"""A package built on Debian 12 runs a cluster on Debian 13, at one prefix and then at another.

That the same fails without the patches is shown by hand: `unpatched.py`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clean_instance import CleanInstance
from live_cluster import LOGIN_PLUGIN, PLACES, LiveCluster, Mapped

from slurm_factory.relocate.policy import load_policy

pytestmark = pytest.mark.integration

FIRST = next(iter(PLACES.values()))
DAEMONS = {"munged", "slurmdbd", "slurmctld", "slurmd", "slurmrestd", "slurmstepd"}


@pytest.fixture(scope="module")
def package(build_package: Callable[[str], Path]) -> Path:
    return build_package("24.11.5")


@pytest.fixture(scope="module")
def unpacked(clean_instance: CleanInstance, package: Path) -> LiveCluster:
    return LiveCluster(clean_instance, package, FIRST)


@pytest.fixture(scope="module", params=list(PLACES.values()), ids=list(PLACES))
def cluster(request: pytest.FixtureRequest, unpacked: LiveCluster) -> Iterator[LiveCluster]:
    unpacked.move_to(request.param)
    try:
        unpacked.start()
        yield unpacked
    finally:
        unpacked.stop()


@pytest.fixture(scope="module")
def mapped(cluster: LiveCluster) -> Mapped:
    return cluster.mapped()


def test_machine_that_could_lend_a_library_or_a_compiler_proves_nothing(
    clean_instance: CleanInstance,
) -> None:
    clean_instance.run("clean.sh")


def test_srun_and_accounting_work_without_any_environment(cluster: LiveCluster) -> None:
    assert "COMPLETED" in cluster.check("srun")


def test_sbatch_script_runs_and_starts_steps_from_the_tree(cluster: LiveCluster) -> None:
    assert "COMPLETED" in cluster.check("sbatch")


def test_x11_display_of_an_ordinary_user_reaches_the_job(cluster: LiveCluster) -> None:
    assert "with its cookie" in cluster.check("x11")


def test_pam_slurm_lets_in_users_with_a_job_only(cluster: LiveCluster) -> None:
    assert "let in with a job only" in cluster.check("pam")


def test_commands_are_completed_in_bash(cluster: LiveCluster) -> None:
    assert "--cpus-per-task" in cluster.check("completion")


def test_nss_slurm_gives_a_job_its_user(cluster: LiveCluster) -> None:
    assert "in a job: alice:" in cluster.check("nss")


def test_munge_s_own_tools_work_from_the_tree(cluster: LiveCluster) -> None:
    assert "Processed 10 credentials" in cluster.check("munge")


def test_slurmrestd_finds_its_parsers_and_token_check_in_the_tree(cluster: LiveCluster) -> None:
    assert "ping, nodes, clusters" in cluster.check("restd")


def test_pmix_finds_its_components_and_gives_tasks_their_ranks(cluster: LiveCluster) -> None:
    assert "ranks 0 1" in cluster.check("pmix")


def test_lua_of_the_tree_runs_the_site_s_job_submit_script(cluster: LiveCluster) -> None:
    assert "seen by Lua" in cluster.check("lua")


def test_no_process_takes_a_library_from_the_machine_against_the_policy(
    cluster: LiveCluster, mapped: Mapped
) -> None:
    assert {program for program, _ in mapped.by} == DAEMONS
    assert mapped.foreign(cluster.place.tree, load_policy()) == set()


def test_slurmdbd_takes_the_database_s_login_plugin_from_the_tree(
    cluster: LiveCluster, mapped: Mapped
) -> None:
    plugin = ("slurmdbd", cluster.place.tree / LOGIN_PLUGIN)
    assert (plugin in mapped.by) == (cluster.place.login == "ed25519")


@pytest.mark.parametrize("beside", [True, False], ids=["beside the tree", "told the prefix"])
@pytest.mark.parametrize("system", ["lmod", "tcl"])
def test_module_finds_srun_and_leaves_nothing_behind(
    cluster: LiveCluster, system: str, beside: bool
) -> None:
    assert "loaded and unloaded" in cluster.check_module(system, beside=beside)
