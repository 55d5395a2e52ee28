"""The base instance: its name, how it is set up, and whether it can be copied."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from craft_providers import ProviderError, lxd
from craft_providers.bases import BuilddBase
from craft_providers.errors import BaseCompatibilityError, BaseConfigurationError
from craft_providers.executor import get_instance_name
from craft_providers.instance_config import InstanceConfiguration
from craft_providers.lxd.launcher import _formulate_base_instance_name
from executor_samples import RecordingExecutor
from fake_lxc import PROJECT, FakeLxc
from launch_samples import NAME, SETUP, SPACK_SETUP, UBUNTU_SETUP, UNFINISHED, base, make_base
from reporter_samples import Listener

from slurm_factory import resources
from slurm_factory.config import Settings
from slurm_factory.constants import Deps
from slurm_factory.instances import base as base_module
from slurm_factory.instances.base import (
    FactoryBase,
    SpackFiles,
    base_instance_name,
    base_lock,
    compatibility_tag,
    needs_base,
)
from slurm_factory.instances.images import ImageName
from slurm_factory.instances.network import Network
from slurm_factory.plan import base_setup as base_record
from slurm_factory.plan.base_setup import BaseSetup
from slurm_factory.plan.bases import Base, bases
from slurm_factory.util.process import TRANSIENT


def test_setting_up_a_base_neither_installs_snaps_nor_contacts_anybody_but_the_archive() -> None:
    executor = RecordingExecutor()
    make_base(Network(reach="deb.example")).setup(executor=executor)
    assert not [c for c in executor.commands if "snap" in c or "ubuntu.com" in c]
    assert [c for c in executor.commands if "getent" in c] == ["getent ahosts deb.example"]
    [environment] = [e for e in executor.environments if "PACKAGES" in e]
    assert {"build-essential", "libmunge-dev"} <= {*str(environment["PACKAGES"]).split()}
    assert "setup: true" in executor.files["/etc/craft-instance.conf"].decode()


def test_warming_a_copy_up_neither_touches_snaps_nor_installs_anything() -> None:
    executor = RecordingExecutor()
    base = make_base()
    base.setup(executor=executor)
    executor.commands.clear()
    base.warmup(executor=executor)
    assert not [c for c in executor.commands if "snap" in c or "apt" in c]


def test_a_command_of_craft_providers_that_lxc_could_not_start_is_started_again_in_silence(
    fake: FakeLxc, capfd: pytest.CaptureFixture[str]
) -> None:
    counter = fake.directory / "counter"
    (fake.directory / "lxc").write_text(
        f"#!/bin/sh\necho x >> {counter}\n[ $(wc -l < {counter}) -ge 3 ] && exit 0\n"
        f"echo 'Error: {TRANSIENT}' >&2; exit 255\n"
    )
    lxc = base_module.QuietLXC(lxc_path=fake.directory / "lxc")
    assert lxc.exec(command=["test", "-f", "/x"], instance_name=NAME).returncode == 0
    assert counter.read_text() == "x\n" * 3
    counter.unlink()
    never = (fake.directory / "lxc").read_text().replace("-ge 3", "-ge 9")
    (fake.directory / "lxc").write_text(never)
    with pytest.raises(subprocess.CalledProcessError):
        lxc.exec(command=["true"], instance_name=NAME, check=True, capture_output=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("entry", ["setup", "warmup"])
def test_whatever_is_done_to_an_instance_first_makes_its_lxc_quiet(
    entry: str, fake: FakeLxc, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = lxd.LXDInstance(name="x", lxc=lxd.LXC(lxc_path=Path("/none")), client=object())
    fake.fail("exec", "Error: Instance is not running")
    monkeypatch.setattr(base_module, "READY_SECONDS", 0)
    with pytest.raises((ProviderError, subprocess.CalledProcessError)):
        getattr(make_base(), entry)(executor=executor)
    assert isinstance(executor.lxc, base_module.QuietLXC)


def test_certificates_and_the_list_of_sources_reach_the_instance_before_the_packages(
    tmp_path: Path,
) -> None:
    (tmp_path / "proxy.crt").write_text("PEM")
    executor = RecordingExecutor()
    network = Network(certificates=(tmp_path / "proxy.crt",), sources_list="deb x y z")
    make_base(network).setup(executor=executor)
    assert executor.files["/usr/local/share/ca-certificates/host-proxy.crt"] == b"PEM"
    [environment] = [e for e in executor.environments if "PACKAGES" in e]
    assert environment["SOURCES_LIST"] == "deb x y z"


def test_packages_that_cannot_be_installed_fail_the_setup_with_apts_own_reason() -> None:
    with pytest.raises(BaseConfigurationError) as caught:
        make_base().setup(executor=RecordingExecutor(failing=["bash -c #!/usr/bin/env bash"]))
    assert caught.value.details == "E: Unable to locate package x"


def test_a_proxy_that_is_given_by_its_address_needs_no_name() -> None:
    executor = RecordingExecutor()
    make_base(Network(reach="192.0.2.1")).setup(executor=executor)
    [command] = [c for c in executor.commands if "getent" in c]
    assert subprocess.run(command.split(), stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_an_archive_that_cannot_be_resolved_fails_the_setup_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base_module, "READY_SECONDS", 0)
    base = make_base(Network(reach="deb.example"))
    with pytest.raises(BaseConfigurationError, match=r"cannot resolve deb\.example"):
        base.setup(executor=RecordingExecutor(failing=["getent"]))


def test_an_image_of_another_distribution_is_incompatible() -> None:
    base = FactoryBase(UBUNTU_SETUP, PROJECT, Network(), reporter=Listener())
    with pytest.raises(BaseCompatibilityError, match=r"expected ubuntu@24.04, found debian@12"):
        base.setup(executor=RecordingExecutor())


@pytest.mark.parametrize("record", ["damaged", "[1]", "a: [", "setup: false", "", "\\x00"])
def test_damaged_record_of_the_setup_shows_that_the_base_is_not_whole(
    monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    def load(**_: object) -> InstanceConfiguration | None:
        data = yaml.safe_load(record)
        return None if data is None else InstanceConfiguration.unmarshal(data)

    monkeypatch.setattr(InstanceConfiguration, "load", load)
    base = make_base(Network())
    with pytest.raises(BaseCompatibilityError):
        base._ensure_setup_completed(executor=RecordingExecutor())
    assert base.damaged


def test_the_compatibility_tag_changes_with_the_packages_and_with_the_script(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tag = compatibility_tag(SETUP, PROJECT)
    assert BuilddBase.compatibility_tag in tag
    assert compatibility_tag(SETUP, PROJECT) == tag
    with monkeypatch.context() as patched:
        patched.setattr(base_record, "packages_for", lambda *_, **__: ("another-dev",))
        assert compatibility_tag(SETUP, PROJECT) != tag
    original = resources.script
    monkeypatch.setattr(resources, "script", lambda name: original(name) + "#")
    assert compatibility_tag(SETUP, PROJECT) != tag


@pytest.mark.parametrize("base", bases(), ids=lambda base: base.slug)
@pytest.mark.parametrize("remote", ["local", "ubuntu", "images"])
def test_the_name_of_a_base_is_the_one_craft_providers_gives_it(base: Base, remote: str) -> None:
    found = ImageName(remote, f"slurm-factory-{base.slug}-x86_64")
    setup = BaseSetup(base, Deps.SYSTEM, "x86_64")
    base_configuration = FactoryBase(setup, PROJECT, Network(), reporter=Listener())
    theirs = _formulate_base_instance_name(
        image_name=found.alias,
        image_remote=remote,
        compatibility_tag=base_configuration.compatibility_tag,
    )
    assert base_instance_name(setup, found, PROJECT) == get_instance_name(theirs, lxd.LXDError)


def make_spack_base(files: SpackFiles | None) -> FactoryBase:
    return FactoryBase(SPACK_SETUP, PROJECT, Network(), spack_files=files, reporter=Listener())


def test_spack_is_pushed_and_set_up_after_the_packages(spack_files: SpackFiles) -> None:
    executor = RecordingExecutor()
    make_spack_base(spack_files).setup(executor=executor)
    [packages] = [i for i, e in enumerate(executor.environments) if "PACKAGES" in e]
    [spack] = [i for i, e in enumerate(executor.environments) if "SPACK_ARCHIVE" in e]
    assert packages < spack
    environment = executor.environments[spack]
    for key in ("SPACK_ARCHIVE", "PACKAGES_ARCHIVE", "CLINGO_WHEEL"):
        path = str(environment[key])
        assert executor.files[path].decode() == Path(path).name
    assert environment["SPACK_PYTHON"] == "/opt/spack-python/bin/python3"
    assert environment["EXTERNALS"] == "/opt/spack-externals/packages.yaml"


def test_a_system_base_is_made_without_spack() -> None:
    executor = RecordingExecutor()
    make_base().setup(executor=executor)
    assert not [e for e in executor.environments if "SPACK_ARCHIVE" in e]


def test_a_base_that_was_removed_while_the_build_began_is_explained() -> None:
    with pytest.raises(BaseConfigurationError) as caught:
        make_spack_base(None).setup(executor=RecordingExecutor())
    assert caught.value.resolution == "Run the command again."


def test_spack_that_cannot_be_set_up_fails_the_setup_with_the_scripts_own_reason(
    spack_files: SpackFiles,
) -> None:
    script = f"bash -c {resources.script('setup-spack.sh')}"
    with pytest.raises(BaseConfigurationError, match="Cannot set up Spack") as caught:
        make_spack_base(spack_files).setup(executor=RecordingExecutor(failing=[script]))
    assert caught.value.details == "E: Unable to locate package x"


def test_the_password_of_a_proxy_is_neither_in_a_command_line_nor_left_in_a_base(
    spack_files: SpackFiles,
) -> None:
    network = Network(proxies={"https_proxy": "http://u:geheim@p:1"})
    executor = RecordingExecutor()
    base = FactoryBase(SPACK_SETUP, PROJECT, network, spack_files=spack_files, reporter=Listener())
    base.setup(executor=executor)
    assert [c for c in executor.commands if c.startswith("sh -c IFS= read -r line")]
    assert "geheim" not in f"{executor.commands} {executor.environments} {executor.files}"
    assert "geheim" not in str(base.get_command_environment())


def test_a_launch_knows_beforehand_whether_it_has_to_make_the_base(
    fake: FakeLxc, settings: Settings
) -> None:
    assert not needs_base(SETUP, "x86_64", settings)
    assert needs_base(SPACK_SETUP, "x86_64", settings)
    day = timedelta(days=1)
    fake.instances([base(datetime.now(UTC) - base_record.BASE_LIFE + day)])
    assert not needs_base(SETUP, "x86_64", settings)
    fake.instances([base(datetime.now(UTC) - base_record.BASE_LIFE - day)])
    assert needs_base(SETUP, "x86_64", settings)


@pytest.mark.parametrize("unfinished", UNFINISHED)
def test_a_base_whose_maker_was_killed_does_not_count_as_there(
    fake: FakeLxc, settings: Settings, unfinished: dict[str, Any]
) -> None:
    """Else `prefetch` says that all is there, and `build --offline` makes the base by download."""
    assert not needs_base(SETUP, "x86_64", settings)
    fake.instances([unfinished])
    assert needs_base(SETUP, "x86_64", settings)


def test_bases_that_may_be_made_at_the_same_time_have_locks_of_their_own(tmp_path: Path) -> None:
    setups = (SETUP, SPACK_SETUP, UBUNTU_SETUP, replace(SPACK_SETUP, packages=("libssl-dev",)))
    locks = {base_lock(setup, tmp_path) for setup in setups}
    assert len(locks) == len(setups)
    assert base_lock(replace(SETUP), tmp_path) in locks
