"""Who follows docs/install.md on clean machines gets what it promises."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from install_site import MACHINES, Site, new_site
from page_blocks import PAGE

from slurm_factory.config import Settings

pytestmark = pytest.mark.integration

TREE = "/opt/slurm/software"


@pytest.fixture(scope="module")
def site(lxd: Settings, build_package: Callable[[str], Path]) -> Iterator[Site]:
    with new_site(lxd, build_package("24.11.5")) as site:
        site.follow_page(PAGE)
        yield site


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_takes_credentials_of_munge(site: Site, machine: str) -> None:
    assert "Success" in site.printed("munge -n |", machine)


def test_first_job_runs_on_the_node(site: Site) -> None:
    assert site.printed("srun hostname", "ctl").splitlines()[0] == "node1"


def test_jobs_of_controller_and_login_node_are_in_the_database(site: Site) -> None:
    found = site.machines["ctl"].run("check-accounts.sh", TREE, "hostname", "wrap")
    assert [line.split() for line in found.splitlines()] == [
        ["hostname", "COMPLETED"],
        ["wrap", "COMPLETED"],
    ]


def test_cluster_registered_itself_with_slurmdbd(site: Site) -> None:
    assert site.printed("scontrol ping", "ctl").splitlines()[-1].split()[0] == "cluster"


def test_slurmrestd_answers_an_ordinary_user_for_controller_and_database(site: Site) -> None:
    answers = site.printed("scontrol token", "ctl")
    assert '"hostname": "node1"' in answers
    assert '"name": "cluster"' in answers


def test_no_machine_but_the_controller_has_a_configuration_of_its_own(site: Site) -> None:
    for name in MACHINES[1:]:
        site.machines[name].execute("no configuration", ["test", "!", "-e", "/etc/slurm"], {})


@pytest.mark.parametrize("directory", ["modules", "modulefiles"])
def test_module_provides_commands_that_find_the_cluster(site: Site, directory: str) -> None:
    assert "node1" in site.printed(f"/opt/slurm/{directory}\nmodule load slurm/25.11", "login1")


def test_sshd_of_the_node_lets_users_in_with_a_job_only(site: Site) -> None:
    assert "only with a job" in site.machines["node1"].run("check-page-login.sh", TREE)


def test_everything_comes_back_after_a_power_cut(site: Site) -> None:
    site.cut_power(TREE)
    assert "node1" in site.machines["login1"].run("check-cluster.sh", TREE)
