"""The configuration of a cluster names nothing that a package or a series does not have."""

from pathlib import Path

import pytest

from slurm_factory.package.tree import Tree
from slurm_factory.verify.site import Site


def tree(tmp_path: Path, *plugins: str, release: str = "24.11.5", x11: bool = True) -> Tree:
    for plugin in plugins:
        path = tmp_path / f"lib/slurm/{plugin}.so"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Tree(tmp_path, "software", release, x11=x11)


def test_minimal_package_gets_no_plugin_that_it_lacks(tmp_path: Path) -> None:
    files = Site(tree(tmp_path, x11=False), "head", 2).files()
    text = files["SLURM_CONF"]
    for absent in ("Accounting", "jwt", "JobSubmit", "TLS", "X11"):
        assert absent not in text
    assert "PrologFlags=Contain\n" in text
    assert files["CONFIGLESS"] == "1"


def test_standard_package_gets_everything(tmp_path: Path) -> None:
    plugins = ("accounting_storage_mysql", "auth_jwt", "job_submit_lua")
    text = Site(tree(tmp_path, *plugins), "head", 2).files()["SLURM_CONF"]
    for line in (
        "AccountingStorageHost=head",
        "AuthAltTypes=auth/jwt",
        "JobSubmitPlugins=lua",
        "PrologFlags=X11",
        "NodeName=node3 CPUs=2 RealMemory=256 State=UNKNOWN",
    ):
        assert f"{line}\n" in text


@pytest.mark.parametrize(
    ("release", "plugin"),
    [("23.02.8", "cgroup/v1"), ("23.11.11", "cgroup/v1"), ("24.05.8", "disabled")],
)
def test_old_series_get_names_that_they_know(tmp_path: Path, release: str, plugin: str) -> None:
    files = Site(tree(tmp_path, release=release), "head", 2).files()
    assert files["CGROUP_CONF"] == f"CgroupPlugin={plugin}\n"


def test_daemons_that_know_each_other_by_a_key_sign_credentials_with_it(tmp_path: Path) -> None:
    files = Site(tree(tmp_path, "accounting_storage_mysql"), "head", 2, auth="slurm").files()
    assert "AuthType=auth/slurm\nCredType=cred/slurm\n" in files["SLURM_CONF"]
    assert "AuthType=auth/slurm\n" in files["SLURMDBD_CONF"]


def test_encrypted_machines_all_have_a_configuration(tmp_path: Path) -> None:
    files = Site(tree(tmp_path, "tls_s2n"), "head", 2).files()
    assert "TLSType=tls/s2n\n" in files["SLURM_CONF"]
    assert "enable_configless" not in files["SLURM_CONF"]
    assert files["CONFIGLESS"] == "0"
