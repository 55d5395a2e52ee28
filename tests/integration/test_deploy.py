"""Who follows the tutorials on clean machines gets a cluster, and versions come and go in it."""

import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploy_samples import Place, make_package
from file_systems import as_root, fill, small_file_system
from install_site import MACHINES, PACKAGE_DIRECTORY, Site, new_site
from page_blocks import DOCS

from slurm_factory.config import Settings
from slurm_factory.package.deployment import DEPLOYMENT
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.tarball import pack
from slurm_factory.plan.bases import find_distro

pytestmark = pytest.mark.integration

TREE = "/opt/slurm/current/software"
SWITCHES = 20


@pytest.fixture(scope="module", params=["debian@12", "debian@13"])
def one(
    request: pytest.FixtureRequest, lxd: Settings, build_package: Callable[[str], Path]
) -> Iterator[Site]:
    package = build_package("24.11.5")
    with new_site(lxd, package, ("one",), find_distro(request.param)) as site:
        site.follow_page(DOCS / "tutorial.md")
        yield site


def test_first_jobs_run_and_are_in_the_database(one: Site) -> None:
    assert one.printed("srun hostname", "one").splitlines()[2] == "one"
    found = one.machines["one"].run("check-accounts.sh", TREE, "hostname", "wrap")
    assert [line.split() for line in found.splitlines()] == [
        ["hostname", "COMPLETED"],
        ["wrap", "COMPLETED"],
    ]


def test_dry_run_shows_what_the_deployment_then_does(one: Site) -> None:
    shown = one.printed("--dry-run", "one")
    done = one.printed("--config mycluster\n", "one")
    written = {line.partition(":")[0] for line in done.splitlines() if line.endswith(": written")}
    would = {line.partition(":")[0] for line in shown.splitlines() if line.endswith("be written")}
    assert would
    assert would <= written


def test_rest_api_answers_an_ordinary_user(one: Site) -> None:
    answers = one.printed("scontrol token", "one")
    assert '"hostname": "one"' in answers
    assert '"name": "mycluster"' in answers


@pytest.mark.parametrize("directory", ["modules", "modulefiles"])
def test_module_of_the_prefix_provides_the_commands(one: Site, directory: str) -> None:
    assert "one" in one.printed(f"/opt/slurm/{directory}\nmodule load", "one")


def test_windows_of_jobs_reach_the_user(one: Site) -> None:
    assert "with its cookie" in one.machines["one"].run("check-x11.sh", TREE)


def test_sshd_lets_users_in_with_a_job_only(one: Site) -> None:
    assert "only with a job" in one.machines["one"].run("check-page-login.sh", TREE)


def test_units_are_ones_that_systemd_accepts(one: Site) -> None:
    words = [
        "systemd-analyze",
        "verify",
        *(f"/etc/systemd/system/{unit}.service" for unit in UNITS),
    ]
    assert one.machines["one"].execute("the units", words, {}) == ""


UNITS = ("munge", "slurmctld", "slurmd", "slurmdbd", "slurmrestd")


def test_job_and_steps_survive_a_second_version_and_the_way_back(one: Site, tmp_path: Path) -> None:
    second = second_of(one.manifest, tmp_path)
    machine = one.machines["one"]
    machine.push(second, PACKAGE_DIRECTORY / second.name)
    said = machine.run(
        "deploy-second.sh",
        PACKAGE_DIRECTORY / "deploy.sh",
        PACKAGE_DIRECTORY / second.name,
        SWITCHES,
    )
    assert "job survived" in said
    assert re.search(rf"^[0-9]+ steps during {SWITCHES} switches, 0 failed$", said, re.MULTILINE)


def second_of(manifest: Path, directory: Path) -> Path:
    """The same package under another name."""
    identity = load_manifest(manifest).identity
    with tarfile.open(manifest.with_name(identity.software_tarball)) as archive:
        archive.extractall(directory, filter="data")
    facts = directory / "software" / DEPLOYMENT / "package.conf"
    facts.write_text(facts.read_text().replace(identity.stem, "slurm-second"))
    second = directory / "slurm-second-software.tar.gz"
    pack(directory / "software", second, top="software", mtime=identity.epoch)
    shutil.rmtree(directory / "software")
    return second


def test_everything_comes_back_after_a_power_cut(one: Site) -> None:
    one.cut_power(TREE)
    assert "one" in one.machines["one"].run("check-cluster.sh", TREE)


def test_blocks_of_the_page_about_deployments_run(
    lxd: Settings, build_package: Callable[[str], Path]
) -> None:
    with new_site(lxd, build_package("24.11.5"), ("ctl",)) as site:
        site.follow_page(DOCS / "deployment.md")
        assert "23.02 -> 24.11 -> 26.05" in site.printed("--plan-upgrade", "ctl")


def test_full_disk_leaves_what_is_current(tmp_path: Path) -> None:
    old = make_package(tmp_path, "24.11.5")
    with small_file_system(tmp_path / "small", 4) as small:
        place = Place(small / "slurm")
        assert place.deploy(old).code == 7, "not even room for a small package and its margin"
    with small_file_system(tmp_path / "larger", 24) as larger:
        place = Place(larger / "slurm")
        assert place.deploy(old).code == 0
        newer = make_package(tmp_path, "24.11.6", files=400, changes={"size": "1"})
        taken = fill(larger)
        taken.write_bytes(bytes(taken.stat().st_size - 600 * 1024))
        done = place.deploy(newer)
        assert done.code == 7, done.errors
        taken.unlink()
        assert place.current == "slurm-24.11.5"
        assert place.names == {"slurm-24.11.5"}
        assert place.deploy(newer).code == 0


def test_machine_that_may_not_write_to_a_shared_prefix_takes_what_is_there(tmp_path: Path) -> None:
    old, new = make_package(tmp_path, "24.11.5"), make_package(tmp_path, "25.05.8")
    with small_file_system(tmp_path / "shared", 24) as shared:
        place = Place(shared / "slurm")
        assert place.deploy(old).code == 0
        as_root("mount", "-o", "remount,ro", str(shared))
        done = place.deploy(old)
        assert done.code == 0, done.errors
        assert done.errors == ""
        refused = place.deploy(new)
        assert refused.code == 7
        assert "read-only" in refused.errors


@pytest.fixture(scope="module")
def cluster(lxd: Settings, build_package: Callable[[str], Path]) -> Iterator[Site]:
    with new_site(lxd, build_package("24.11.5"), MACHINES) as site:
        site.follow_page(DOCS / "tutorial-cluster.md")
        yield site


def test_job_of_the_login_machine_runs_on_the_node(cluster: Site) -> None:
    printed = cluster.printed("srun hostname", "login1")
    assert "node1" in printed.splitlines()
    found = cluster.machines["ctl"].run("check-accounts.sh", TREE, "hostname")
    assert found.split() == ["hostname", "COMPLETED"]


def test_only_the_controller_has_a_configuration(cluster: Site) -> None:
    for name in MACHINES[1:]:
        words = ["test", "!", "-e", "/etc/slurm/slurm.conf"]
        cluster.machines[name].execute("no configuration", words, {})
