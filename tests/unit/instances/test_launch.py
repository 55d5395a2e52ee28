"""Launching: the base instance, craft-providers' faults, and what is deleted when."""

import fcntl
import grp
import inspect
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pylxd.exceptions
import pytest
import requests
from craft_providers import Base as ProvidersBase
from craft_providers import ProviderError, lxd
from craft_providers.bases import BuilddBase
from craft_providers.errors import BaseCompatibilityError, BaseConfigurationError
from craft_providers.executor import get_instance_name
from craft_providers.lxd.launcher import _formulate_base_instance_name
from executor_samples import RecordingExecutor
from fake_lxc import PROJECT, FakeLxc, image, install_fake_lxc, instance, locked_elsewhere
from plan_samples import sample_plan, sample_settings
from reporter_samples import Listener

from slurm_factory import resources
from slurm_factory import supplies as preparation
from slurm_factory.config import Settings
from slurm_factory.constants import Deps
from slurm_factory.exceptions import (
    BuildError,
    ConfigurationError,
    DownloadError,
    InterruptedBuildError,
    LXDError,
    OutputError,
    SlurmFactoryError,
)
from slurm_factory.host.facts import Daemon
from slurm_factory.instances import base as base_module
from slurm_factory.instances import base_contents
from slurm_factory.instances import images as images_module
from slurm_factory.instances import launch as project_module
from slurm_factory.instances import lxc as lxc_module
from slurm_factory.instances.base import (
    FactoryBase,
    SpackFiles,
    base_instance_name,
    base_lock,
    compatibility_tag,
    needs_base,
)
from slurm_factory.instances.base_contents import read_record
from slurm_factory.instances.build_instance import lxd_instance
from slurm_factory.instances.images import ImageName, ensure_image, sources_list
from slurm_factory.instances.instance import TRANSIENT, Instance
from slurm_factory.instances.launch import Launch, ensure_project
from slurm_factory.instances.lxc import (
    TimedOutError,
    delete_instance,
    delete_unfinished,
    explain,
    instance_names,
    lxc,
    wait_for_operations,
)
from slurm_factory.instances.network import Surroundings, both_spellings, find_surroundings
from slurm_factory.job import Job
from slurm_factory.plan import base_setup as base_record
from slurm_factory.plan.base_setup import (
    BaseSetup,
    SpackRefs,
    base_packages,
    load_record,
    record_path,
    setup_digest,
    spack_digest,
    without_credentials,
)
from slurm_factory.plan.bases import Base, PackageManager, bases, find_base
from slurm_factory.supplies import require_machine
from slurm_factory.workspace import open_workspace

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
DEBIAN = find_base("debian@12", ("debian", "12"))
UBUNTU = find_base("ubuntu@24.04", ("debian", "12"))
MADE_HERE = ImageName("local", "slurm-factory-debian-12-x86_64")
SETUP = BaseSetup(DEBIAN, Deps.SYSTEM)
UBUNTU_SETUP = BaseSetup(UBUNTU, Deps.SYSTEM)
REFS = SpackRefs("https://u:p@git.example/spack", "v1.1.0", "/srv/spack-packages", "v2026.06.0")
SPACK_SETUP = BaseSetup(DEBIAN, Deps.SPACK, REFS)
BASE_NAME = base_instance_name(SETUP, MADE_HERE, PROJECT)
DESCRIPTION = (
    f"base-instance-{compatibility_tag(SETUP, PROJECT)}-{MADE_HERE.remote}-{MADE_HERE.alias}"
)
OTHER_BASE = base_instance_name(SPACK_SETUP, MADE_HERE, PROJECT)
NAME = "build-x"
LAUNCH = lxd.launch
PATIENCE = 120
"""Seconds after which a thread that should have begun to wait counts as one that does not."""


class FakeInstance(RecordingExecutor):
    """What `lxd.launch` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.default_command_environment: dict[str, str | None] = {}
        self.mounts: list[tuple[Path, str]] = []

    def mount(self, *, host_source: Path, target: Any) -> None:
        self.mounts.append((host_source, str(target)))


class FakeLauncher:
    """`lxd.launch`, failing as it is told, one error a call."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls: list[dict[str, Any]] = []
        self.instance = FakeInstance()
        self.on_call: Callable[[FactoryBase], None] = lambda _: None

    def __call__(self, name: str, **arguments: Any) -> FakeInstance:
        self.calls.append({"name": name, **arguments})
        self.on_call(arguments["base_configuration"])
        if self.errors:
            raise self.errors.pop(0)
        return self.instance


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLxc:
    """LXD with an image and a base that were made here."""
    fake = install_fake_lxc(tmp_path / "bin", monkeypatch)
    fake.images([image(MADE_HERE.alias)])
    fake.instances([base(datetime.now(UTC))])
    monkeypatch.setattr(images_module, "ETC_APT", tmp_path / "none")
    monkeypatch.setattr(lxc_module, "QUIET_LOOKS", 0)
    return fake


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache")


def base(created: datetime, description: str = DESCRIPTION, **noted: str) -> dict[str, Any]:
    """The base instance that was made here, as `lxc list` shows it."""
    return instance(BASE_NAME, created, None, description=description, **noted)


def launcher(monkeypatch: pytest.MonkeyPatch, *errors: BaseException) -> FakeLauncher:
    made = FakeLauncher(*errors)
    monkeypatch.setattr(lxd, "launch", made)
    return made


@contextmanager
def launched(settings: Settings, *, keep: bool = False) -> Iterator[Instance]:
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock", keep=keep)
    with lxd_instance(launch, settings, Listener()) as place:
        yield place


def image_lock(settings: Settings) -> Path:
    """Held while the image of Debian 12 is made."""
    return settings.images_dir / "debian-12.lock"


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def make_base(
    surroundings: Surroundings | None = None, reporter: Listener | None = None
) -> FactoryBase:
    reporter = reporter or Listener()
    return FactoryBase(SETUP, PROJECT, surroundings or Surroundings(), reporter=reporter)


# --- the base -----------------------------------------------------------------------------------


def test_setting_up_a_base_neither_installs_snaps_nor_contacts_anybody_but_the_archive() -> None:
    executor = RecordingExecutor()
    make_base(Surroundings(reach="deb.example")).setup(executor=executor)
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


@pytest.mark.parametrize("first", ["setup_hostname", "_ensure_setup_completed"])
def test_the_first_step_in_an_instance_makes_its_lxc_quiet(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = lxd.LXDInstance(name="x", lxc=lxd.LXC(lxc_path=Path("/none")), client=object())
    monkeypatch.setattr(BuilddBase, first, lambda *_, **__: None)
    monkeypatch.setattr(base_module, "_until_it_succeeds", lambda *_: None)
    getattr(make_base(), first)(executor)
    assert isinstance(executor.lxc, base_module.QuietLXC)


def test_no_hook_of_craft_providers_that_speaks_of_snaps_is_left_as_it_is() -> None:
    empty = {"_pre_setup_snaps", "_post_setup_snaps", "_pre_finish"}
    called_by_hooks = {
        *("_enable_snapd_service", "_disable_and_wait_for_snap_refresh", "_setup_snapd_proxy"),
        *("_disable_snapd_cdn", "_install_snaps"),
    }
    never_called = {"__init__", "setup", "warmup", *empty, *called_by_hooks}
    speaking = {
        name
        for kind in (BuilddBase, ProvidersBase)
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and "snap" in inspect.getsource(member)
    }
    assert speaking - never_called <= {*vars(FactoryBase)}


def test_certificates_and_the_list_of_sources_reach_the_instance_before_the_packages(
    tmp_path: Path,
) -> None:
    (tmp_path / "proxy.crt").write_text("PEM")
    executor = RecordingExecutor()
    surroundings = Surroundings(certificates=(tmp_path / "proxy.crt",), sources_list="deb x y z")
    make_base(surroundings).setup(executor=executor)
    assert executor.files["/usr/local/share/ca-certificates/host-proxy.crt"] == b"PEM"
    [environment] = [e for e in executor.environments if "PACKAGES" in e]
    assert environment["SOURCES_LIST"] == "deb x y z"


def test_packages_that_cannot_be_installed_fail_the_setup_with_apts_own_reason() -> None:
    with pytest.raises(BaseConfigurationError) as caught:
        make_base().setup(executor=RecordingExecutor(failing=["bash -c #!/usr/bin/env bash"]))
    assert caught.value.details == "E: Unable to locate package x"


def test_a_proxy_that_is_given_by_its_address_needs_no_name() -> None:
    executor = RecordingExecutor()
    make_base(Surroundings(reach="192.0.2.1")).setup(executor=executor)
    [command] = [c for c in executor.commands if "getent" in c]
    assert subprocess.run(command.split(), stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_an_archive_that_cannot_be_resolved_fails_the_setup_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base_module, "READY_SECONDS", 0)
    base = make_base(Surroundings(reach="deb.example"))
    with pytest.raises(BaseConfigurationError, match=r"deb\.example cannot be resolved"):
        base.setup(executor=RecordingExecutor(failing=["getent"]))


def test_an_image_of_another_distribution_is_incompatible() -> None:
    base = FactoryBase(UBUNTU_SETUP, PROJECT, Surroundings(), reporter=Listener())
    with pytest.raises(BaseCompatibilityError, match=r"expected ubuntu@24.04, found debian@12"):
        base.setup(executor=RecordingExecutor())


def test_the_compatibility_tag_changes_with_the_packages_and_with_the_script(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tag = compatibility_tag(SETUP, PROJECT)
    assert BuilddBase.compatibility_tag in tag
    assert compatibility_tag(SETUP, PROJECT) == tag
    with monkeypatch.context() as patched:
        patched.setattr(base_record, "packages_for", lambda _: ("another-dev",))
        assert compatibility_tag(SETUP, PROJECT) != tag
    original = resources.script
    monkeypatch.setattr(resources, "script", lambda name: original(name) + "#")
    assert compatibility_tag(SETUP, PROJECT) != tag


def test_two_launches_that_write_the_same_record_at_the_same_time_both_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = datetime.now(UTC) - timedelta(days=1)
    record = read_record(SETUP, RecordingExecutor())
    replacing = Path.replace

    def replace_after_the_other(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replacing)
        base_record.write_record(record, SETUP, tmp_path)
        return replacing(path, target)

    monkeypatch.setattr(Path, "replace", replace_after_the_other)
    base_record.write_record(record, SETUP, tmp_path, made)
    assert load_record(SETUP, tmp_path) == record
    assert record_path(SETUP, tmp_path).stat().st_mtime == pytest.approx(made.timestamp(), abs=1)
    assert list(tmp_path.iterdir()) == [record_path(SETUP, tmp_path)]


def test_a_record_is_that_of_the_current_setup_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_record(SETUP, tmp_path) is None
    record = read_record(SETUP, RecordingExecutor())
    assert record["packages"]["zlib1g:amd64"] == "1:1.2.13.dfsg-1"
    assert "munge:amd64" not in record["packages"], "removed, with its configuration left"
    base_record.write_record(record, SETUP, tmp_path)
    assert load_record(SETUP, tmp_path) == record
    assert load_record(UBUNTU_SETUP, tmp_path) is None
    with monkeypatch.context() as patched:
        patched.setattr(base_record, "packages_for", lambda _: ("another-dev",))
        assert load_record(SETUP, tmp_path) is None
    for damaged in ("", "{", "[]", '{"base": "debian@13"}', "\udcff"):
        record_path(SETUP, tmp_path).write_bytes(damaged.encode("utf-8", "surrogateescape"))
        assert load_record(SETUP, tmp_path) is None


@pytest.mark.parametrize("base", bases(), ids=lambda base: base.slug)
@pytest.mark.parametrize("remote", ["local", "ubuntu", "images"])
def test_the_name_of_a_base_is_the_one_craft_providers_gives_it(base: Any, remote: str) -> None:
    found = ImageName(remote, f"slurm-factory-{base.slug}-x86_64")
    setup = BaseSetup(base, Deps.SYSTEM)
    base_configuration = FactoryBase(setup, PROJECT, Surroundings(), reporter=Listener())
    theirs = _formulate_base_instance_name(
        image_name=found.alias,
        image_remote=remote,
        compatibility_tag=base_configuration.compatibility_tag,
    )
    assert base_instance_name(setup, found, PROJECT) == get_instance_name(theirs, lxd.LXDError)


# --- a base for Spack ----------------------------------------------------------------------------


def make_spack_base(files: SpackFiles | None) -> FactoryBase:
    return FactoryBase(SPACK_SETUP, PROJECT, Surroundings(), spack_files=files, reporter=Listener())


@pytest.fixture
def spack_files(tmp_path: Path) -> SpackFiles:
    paths = [tmp_path / name for name in ("spack-1.tar.gz", "packages-1.tar.gz", "0123abcd")]
    for path in paths:
        path.write_text(path.name)
    return SpackFiles(*paths)


def test_the_digest_of_a_system_base_is_still_the_one_of_bases_that_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else every base that users have would be made again after an update of this program."""
    monkeypatch.setattr(base_record, "packages_for", lambda _: ("libmunge-dev", "libpam0g-dev"))
    monkeypatch.setattr(resources, "script", lambda name: f"# {name}\n")
    assert setup_digest(SETUP) == "182c1eaded1c"


def test_a_system_base_does_not_change_with_anything_of_spack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = setup_digest(SETUP), setup_digest(SPACK_SETUP)
    original = resources.script
    monkeypatch.setattr(
        resources, "script", lambda name: original(name) + "#" * (name == "setup-spack.sh")
    )
    monkeypatch.setattr(base_record, "SPACK_TOOLS", {PackageManager.APT: ("gcc",)})
    assert setup_digest(SETUP) == before[0]
    assert setup_digest(SPACK_SETUP) not in before


@pytest.mark.parametrize("changed", ["url", "ref", "packages_url", "packages_ref"])
def test_another_spack_or_other_recipes_make_another_base(changed: str) -> None:
    refs = replace(REFS, **{changed: "other"})
    assert setup_digest(replace(SPACK_SETUP, spack=refs)) != setup_digest(SPACK_SETUP)
    assert spack_digest(refs) != spack_digest(REFS)


def test_who_fetches_spack_makes_no_other_base() -> None:
    refs = replace(REFS, url="https://someone:else@git.example/spack")
    assert setup_digest(replace(SPACK_SETUP, spack=refs)) == setup_digest(SPACK_SETUP)


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://user:p@ss@host/x?a=b@c", "https://host/x?a=b@c"),
        ("https://host/x@y", "https://host/x@y"),
        ("/srv/spack@1", "/srv/spack@1"),
    ],
)
def test_user_names_and_passwords_are_taken_out_of_urls_and_nothing_else(
    url: str, public: str
) -> None:
    assert without_credentials(url) == public


def test_a_spack_base_has_tools_but_no_headers_of_libraries_that_spack_builds() -> None:
    packages = {*base_packages(SPACK_SETUP)}
    assert {"build-essential", "cmake", "gfortran", "libtool-bin", "python3"} <= packages
    assert not [name for name in packages if name.endswith("-dev")]


def test_a_spack_base_has_the_packages_that_the_users_externals_need() -> None:
    assert "libssl-dev" in base_packages(replace(SPACK_SETUP, packages=("libssl-dev",)))


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
    with pytest.raises(BaseConfigurationError, match="Spack could not be set up") as caught:
        make_spack_base(spack_files).setup(executor=RecordingExecutor(failing=[script]))
    assert caught.value.details == "E: Unable to locate package x"


def test_the_record_of_a_spack_base_has_the_externals_and_says_which_spack_it_is(
    tmp_path: Path,
) -> None:
    record = read_record(SPACK_SETUP, RecordingExecutor())
    assert record["externals"]["packages"]["gmake"]["externals"][0]["spec"] == "gmake@4.3"
    assert record["checkouts"] == {"spack": "git:1234", "spack-packages": "sha256:abcd"}
    base_record.write_record(record, SPACK_SETUP, tmp_path)
    assert load_record(SPACK_SETUP, tmp_path) == record
    assert load_record(SETUP, tmp_path) is None
    del record["externals"]
    base_record.write_record(record, SPACK_SETUP, tmp_path)
    assert load_record(SPACK_SETUP, tmp_path) is None


@pytest.mark.parametrize("text", ["", "a: [", "a: 2001-99-99", "[" * 5000, "a: !!python/x y"])
def test_a_spack_base_without_externals_is_no_base(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answers = {"dpkg-query": "", "cat": text}
    monkeypatch.setattr(base_contents, "_output", lambda command, _: answers[command[0]])
    with pytest.raises(LXDError) as caught:
        read_record(SPACK_SETUP, RecordingExecutor())
    assert "names no externals" in caught.value.details


def test_a_launch_tells_beforehand_whether_it_has_to_make_the_base(
    fake: FakeLxc, settings: Settings
) -> None:
    assert not needs_base(SETUP, "x86_64", settings)
    assert needs_base(SPACK_SETUP, "x86_64", settings)
    day = timedelta(days=1)
    fake.instances([base(datetime.now(UTC) - base_record.BASE_LIFE + day)])
    assert not needs_base(SETUP, "x86_64", settings)
    fake.instances([base(datetime.now(UTC) - base_record.BASE_LIFE - day)])
    assert needs_base(SETUP, "x86_64", settings)


UNFINISHED = [
    base(datetime.now(UTC), status="PREPARING") | {"status": "Running"},
    base(datetime.now(UTC), status="PREPARING"),
    base(datetime.now(UTC), status="STARTING"),
    base(datetime.now(UTC)) | {"status": "Running"},
    # craft-providers marks what it could not set up as finished, and is killed before we delete it.
    base(datetime.now(UTC), "Debian bookworm amd64 (20261101_05:24)"),
    instance(BASE_NAME, datetime.now(UTC)),
]


@pytest.mark.parametrize("unfinished", UNFINISHED)
def test_a_base_whose_maker_was_killed_does_not_count_as_there(
    fake: FakeLxc, settings: Settings, unfinished: dict[str, Any]
) -> None:
    """Else `prefetch` says that all is there, and `build --offline` makes the base by download."""
    assert not needs_base(SETUP, "x86_64", settings)
    fake.instances([unfinished])
    assert needs_base(SETUP, "x86_64", settings)


def test_the_image_of_a_base_that_cannot_be_copied_is_not_taken_for_granted(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base is made anew, from an image that may be gone by now."""
    made = launcher(monkeypatch)
    served = ImageName(DEBIAN.image.remote, DEBIAN.image.alias)
    fake.images([])
    fake.instances([UNFINISHED[0]])
    with launched(settings):
        pass
    assert [call["image_remote"] for call in made.calls] == [served.remote]


def test_an_offline_launch_does_not_wait_for_a_network_in_the_instance(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = launcher(monkeypatch)
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    for offline in (False, True):
        with lxd_instance(replace(launch, offline=offline), settings, Listener()):
            pass
    asked = []
    for call in made.calls:
        executor = RecordingExecutor()
        call["base_configuration"]._setup_wait_for_network(executor)
        asked.append([command.split()[0] for command in executor.commands])
    assert asked == [["getent"], []]


# --- the network --------------------------------------------------------------------------------


def test_proxies_are_passed_on_in_both_spellings_and_nothing_else_is() -> None:
    environ = {"HTTP_PROXY": "http://p:1", "https_proxy": "http://q:2", "NO_PROXY": "", "A": "b"}
    assert both_spellings(environ) == {
        "http_proxy": "http://p:1",
        "HTTP_PROXY": "http://p:1",
        "https_proxy": "http://q:2",
        "HTTPS_PROXY": "http://q:2",
    }


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"http_proxy": "http://p:1", "https_proxy": "http://127.0.0.1:3128"}, "https_proxy"),
        ({"https_proxy": "http://p:1", "HTTP_PROXY": "localhost:3128"}, "http_proxy"),
        ({"ftp_proxy": "[::1]:3128"}, "ftp_proxy"),
    ],
)
def test_no_proxy_may_be_one_that_no_instance_can_reach(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], named: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="cannot be reached") as caught:
        find_surroundings(DEBIAN, MADE_HERE, settings)
    assert caught.value.details.startswith(named)


def test_a_proxy_without_a_host_is_a_mistake_whose_text_is_not_shown(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://geheim@")
    with pytest.raises(ConfigurationError) as caught:
        find_surroundings(DEBIAN, MADE_HERE, settings)
    assert "geheim" not in f"{caught.value} {caught.value.details} {caught.value.resolution}"


def test_an_instance_is_ready_when_it_can_resolve_a_proxy_without_a_scheme(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert find_surroundings(DEBIAN, MADE_HERE, settings).reach == "proxy.example"


def test_the_password_of_a_proxy_is_neither_in_a_command_line_nor_left_in_a_base(
    spack_files: SpackFiles,
) -> None:
    surroundings = Surroundings(proxies={"https_proxy": "http://u:geheim@p:1"})
    executor = RecordingExecutor()
    base = FactoryBase(
        SPACK_SETUP, PROJECT, surroundings, spack_files=spack_files, reporter=Listener()
    )
    base.setup(executor=executor)
    assert [c for c in executor.commands if c.startswith("sh -c IFS= read -r line")]
    assert "geheim" not in f"{executor.commands} {executor.environments} {executor.files}"
    assert "geheim" not in str(base.get_command_environment())


def test_the_commands_of_a_build_get_the_proxies_and_no_command_line_does(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://u:geheim@p:1")
    launch = launcher(monkeypatch)
    with launched(settings) as place:
        assert place.secrets == both_spellings(os.environ)
    assert "geheim" not in f"{fake.calls} {launch.instance.default_command_environment}"


def test_without_a_mirror_the_sources_are_the_distributions_own(
    fake: FakeLxc, settings: Settings
) -> None:
    assert sources_list(DEBIAN, settings).splitlines() == [
        "deb http://deb.debian.org/debian bookworm main",
        "deb http://deb.debian.org/debian bookworm-updates main",
        "deb http://security.debian.org/debian-security bookworm-security main",
    ]


def test_a_mirror_serves_the_archive_and_the_security_archive_beside_it(
    fake: FakeLxc, tmp_path: Path
) -> None:
    settings = sample_settings(tmp_path, debian_mirror="http://mirror.example/debian/")
    lines = sources_list(DEBIAN, settings).splitlines()
    assert lines[0] == "deb http://mirror.example/debian/ bookworm main"
    assert lines[2] == "deb http://mirror.example/debian-security bookworm-security main"
    settings = sample_settings(tmp_path, debian_mirror="http://mirror.example/bookworm")
    assert "security.debian.org" in sources_list(DEBIAN, settings)


def test_the_mirror_of_this_machine_is_used_only_for_its_own_distribution(
    fake: FakeLxc, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sources.list").write_text("deb http://near.example/debian bookworm main\n")
    monkeypatch.setattr(images_module, "ETC_APT", tmp_path)
    assert "near.example" in sources_list(DEBIAN, settings)
    assert "near.example" not in sources_list(UBUNTU, settings)
    assert "noble main universe" in sources_list(UBUNTU, settings)


# --- launching ----------------------------------------------------------------------------------


def test_an_instance_gets_the_cache_the_limits_the_lock_and_goes_after_success(
    fake: FakeLxc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launcher(monkeypatch)
    settings = sample_settings(tmp_path / "cache", cpu_limit=2, memory_limit="4GiB")
    with launched(settings) as place:
        assert place.project == "slurm-factory"
        [configured] = fake.changes
        assert configured.split() == [
            *("config", "set", NAME),
            *("limits.cpu=2", "limits.memory=4GiB", "limits.processes=10000"),
            f"user.slurm_factory.lock={settings.work_dir / 'x.lock'}",
        ]
    assert launch.instance.mounts == [(settings.cache_dir, "/opt/slurm-factory-cache")]
    assert launch.instance.default_command_environment["LC_ALL"] == "C.UTF-8"
    assert fake.changes[1:] == [f"delete --force {NAME}"]
    [call] = launch.calls
    assert call["map_user_uid"]
    assert call["use_base_instance"]
    assert (call["image_remote"], call["image_name"]) == ("local", MADE_HERE.alias)


def test_a_build_from_a_base_that_is_there_asks_lxd_what_it_needs_once(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    with open_workspace("20261127-100000-25-05-a1b2c3", settings) as workspace:
        job = Job(sample_plan(), settings, Listener(), workspace, jobs=1)
        require_machine(job)
        with preparation.launched(job):
            assert [" ".join(call.split()[:2]) for call in fake.calls] == [
                "project list",
                "list --format",
                "config set",
            ]
    assert [call.split()[0] for call in fake.calls[3:]] == ["delete"]


def test_the_instance_of_a_killed_build_is_stopped_by_the_next_one_which_says_so(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.work_dir.mkdir(parents=True)
    left, held = settings.work_dir / "left.lock", settings.work_dir / "held.lock"
    left.touch()
    base, now = instance(BASE_NAME, datetime.now(UTC)), datetime.now(UTC)
    kept = instance("build-kept", now, left)
    kept["config"]["user.slurm_factory.kept"] = "yes"
    others = [
        kept,
        instance("build-running", now, held),
        instance("build-of-gone-cache", now, settings.work_dir / "gone.lock"),
        instance("build-being-launched", now),
        instance("build-stopped", now, left) | {"status": "Stopped"},
        instance("farm", now, left),
    ]
    fake.instances([base, *others, instance("build-orphan", now, left)])
    launcher(monkeypatch)
    reporter = Listener()
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    with locked_elsewhere(held), lxd_instance(launch, settings, reporter):
        assert fake.changes[0] == "stop --force build-orphan"
    assert [call for call in fake.changes if call.startswith("stop")] == fake.changes[:1]
    [note] = reporter.notes
    assert note.startswith("build-orphan still ran, though its build was killed.")


def test_an_orphan_that_cannot_be_stopped_does_not_stop_the_build(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.work_dir.mkdir(parents=True)
    lock = settings.work_dir / "left.lock"
    lock.touch()
    now = datetime.now(UTC)
    fake.instances([instance(BASE_NAME, now), instance("build-orphan", now, lock)])
    fake.fail("stop --force", "Error: The instance is busy")
    launcher(monkeypatch)
    reporter = Listener()
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    with lxd_instance(launch, settings, reporter):
        pass
    [warning] = reporter.warnings
    assert warning.startswith("build-orphan still runs")


@pytest.mark.parametrize("fails", [False, True])
def test_an_instance_that_a_build_leaves_on_purpose_is_marked_as_that(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    fake.instances([instance(BASE_NAME, datetime.now(UTC)), instance(NAME, NOW)])
    launcher(monkeypatch)
    with suppress(BuildError), launched(settings, keep=not fails):
        if fails:
            raise BuildError("make failed.")
    assert fake.changes[-1] == f"config set {NAME} user.slurm_factory.kept=yes"


def test_what_the_base_contains_is_recorded_with_every_launch(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    with launched(settings):
        pass
    record = load_record(SETUP, settings.images_dir)
    assert record is not None
    assert record["packages"]["libc6:amd64"] == "2.36-9"


def test_a_record_that_every_launch_writes_anew_stays_as_old_as_its_base(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = datetime.now(UTC) - timedelta(days=89)
    base = instance(BASE_NAME, made, description=DESCRIPTION)
    fake.instances([base, instance(NAME, datetime.now(UTC))])
    launcher(monkeypatch)
    with launched(settings):
        pass
    assert record_path(SETUP, settings.images_dir).stat().st_mtime == pytest.approx(
        made.timestamp()
    )


def test_a_record_lives_as_long_as_craft_providers_keeps_a_base() -> None:
    assert inspect.signature(LAUNCH).parameters["expiration"].default == base_record.BASE_LIFE


def test_waiting_for_the_base_is_told_only_while_another_build_makes_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    launcher(monkeypatch)
    alone = Listener()
    with lxd_instance(launch, settings, alone):
        assert alone.notes == []
    with locked_elsewhere(base_lock(SETUP, settings.images_dir)) as other:
        waiting = Listener(on_note=lambda _: other.kill())
        with lxd_instance(launch, settings, waiting):
            [note] = waiting.notes
            assert "another build" in note


@pytest.mark.parametrize("made", ["another base of its distribution", "an image for that"])
def test_a_launch_from_a_base_that_is_there_does_not_wait_while_another_build_makes(
    made: str, fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    other = base_lock(SPACK_SETUP, settings.images_dir)
    settings.images_dir.mkdir(parents=True)
    launcher(monkeypatch)
    with (
        locked_elsewhere(image_lock(settings) if "image" in made else other),
        lxd_instance(launch, settings, Listener(on_note=pytest.fail)) as place,
    ):
        assert place.name == NAME


def test_while_a_base_is_made_or_copied_its_own_lock_is_held_and_no_other(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def look(_: FactoryBase) -> None:
        locks = settings.images_dir.glob("*.lock")
        seen.extend(path.name for path in locks if is_locked(path))

    launcher(monkeypatch).on_call = look
    with launched(settings):
        assert seen == [base_lock(SETUP, settings.images_dir).name]
        assert not is_locked(base_lock(SETUP, settings.images_dir))


def test_bases_that_may_be_made_at_the_same_time_have_locks_of_their_own(tmp_path: Path) -> None:
    setups = (SETUP, SPACK_SETUP, UBUNTU_SETUP, replace(SPACK_SETUP, packages=("libssl-dev",)))
    locks = {base_lock(setup, tmp_path) for setup in setups}
    assert len(locks) == len(setups)
    assert base_lock(replace(SETUP), tmp_path) in locks


def test_an_image_that_two_bases_need_is_made_once(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    waits = Event()

    def make(base: Base, *_: object) -> None:
        assert waits.wait(PATIENCE)
        made.append(base.name)
        fake.images([image(MADE_HERE.alias)])

    def tell(line: str) -> None:
        if line.startswith("Waiting for the image of debian@12"):
            waits.set()

    monkeypatch.setattr(images_module, "_bootstrap", make)
    fake.images([])
    alone = settings.model_copy(update={"image_server": False})
    with ThreadPoolExecutor() as pool:
        found = [
            pool.submit(ensure_image, DEBIAN, "x86_64", alone, Listener(tell)) for _ in range(2)
        ]
    assert [each.result() for each in found] == [MADE_HERE, MADE_HERE]
    assert made == ["debian@12"]


def test_nobody_uses_the_project_before_it_has_its_profile(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    there, waits = Event(), Event()

    def create(project: str, **_: object) -> None:
        fake.projects("default", project)
        there.set()
        assert waits.wait(PATIENCE)
        done.append("profile")

    def use() -> None:
        ensure_project(settings, Listener(lambda _: waits.set()))
        done.append("used")

    monkeypatch.setattr(project_module, "create_with_default_profile", create)
    fake.projects("default")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(use)
        assert there.wait(PATIENCE)
        second = pool.submit(use)
    assert (first.result(), second.result()) == (None, None)
    assert done == ["profile", "used", "used"]


def test_after_a_failed_build_the_instance_is_kept_and_the_error_tells_how_to_enter_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    with pytest.raises(BuildError) as caught, launched(settings):
        raise BuildError("make failed.", resolution="Read the log.")
    assert caught.value.resolution == (
        "Read the log. The instance is kept:"
        f" lxc --project slurm-factory exec local:{NAME} -- bash -l"
    )
    assert not [call for call in fake.changes if call.startswith("delete")]


@pytest.mark.parametrize("keep", [False, True])
def test_there_is_no_way_into_an_instance_that_somebody_has_deleted(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    launcher(monkeypatch)
    for error in (BuildError("make failed."), LXDError("The instance was deleted.")):
        with pytest.raises(type(error)) as caught, launched(settings, keep=keep):
            raise error
        assert caught.value.resolution == ""


def test_a_kept_instance_that_somebody_has_stopped_is_told_with_the_command_that_starts_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW) | {"status": "Stopped"}])
    with pytest.raises(LXDError) as caught, launched(settings, keep=True):
        raise LXDError("The instance was stopped.")
    assert caught.value.resolution == (
        f"The instance is kept: lxc --project slurm-factory start local:{NAME}"
    )


def test_lxd_that_does_not_answer_is_not_said_to_keep_an_instance(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_lxd() -> None:
        fake.fail("local:", "Error: connect: connection refused")
        raise BuildError("make failed.")

    launcher(monkeypatch)
    with pytest.raises(BuildError) as caught, launched(settings):
        end_lxd()
    assert "may be left" in caught.value.resolution
    assert "exec" not in caught.value.resolution


@pytest.mark.parametrize("kind", [ConfigurationError, DownloadError, LXDError, OutputError])
@pytest.mark.parametrize("keep", [False, True])
def test_a_mistake_a_failed_download_or_a_full_disk_leaves_no_instance_with_nothing_to_see(
    fake: FakeLxc,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[SlurmFactoryError],
    keep: bool,
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    with pytest.raises(kind) as caught, launched(settings, keep=keep):
        raise kind("No.", resolution="Correct it.")
    assert ("The instance is kept" in caught.value.resolution) == keep
    assert (f"delete --force {NAME}" in fake.changes) != keep


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interrupted_build_leaves_no_instance(
    fake: FakeLxc,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[BaseException],
) -> None:
    launcher(monkeypatch)
    with pytest.raises(stop), launched(settings):
        raise stop
    assert fake.changes[-1] == f"delete --force {NAME}"


def test_an_instance_that_cannot_be_deleted_after_success_is_a_warning_that_names_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    fake.fail("delete --force", "Error: The instance is busy")
    launcher(monkeypatch)
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    reporter = Listener()
    with lxd_instance(launch, settings, reporter):
        pass
    [warning] = reporter.warnings
    assert f"{NAME} could not be deleted; run `slurm-factory clean`" in warning


def copying(code: int) -> dict[str, object]:
    """An operation as LXD 5.0.2 lists it."""
    resources = {"instances": [f"/1.0/instances/{NAME}", f"/1.0/instances/{BASE_NAME}"]}
    return {"class": "task", "status_code": code, "resources": resources}


def test_a_copy_that_lxd_finishes_after_all_is_deleted_too(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lxc_module, "QUIET_LOOKS", 1)
    fake.operations([copying(200)])
    fake.finish_late([instance(NAME, NOW)])
    assert delete_unfinished(NAME, settings.project_name)
    assert fake.changes == [f"delete --force {NAME}"] * 2
    assert instance_names(settings.project_name) == ()


def test_lxd_has_to_be_quiet_about_a_copy_for_several_looks_however_slow_they_are(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 4
    monkeypatch.setattr(lxc_module, "QUIET_LOOKS", looks)
    fake.instances([])
    assert delete_unfinished(NAME, settings.project_name)
    asked = [call for call in fake.calls if call.startswith("operation list")]
    assert len(asked) == 1 + looks
    assert fake.changes == [f"delete --force {NAME}"]


def test_what_lxd_is_making_is_waited_for_and_what_it_has_made_is_not(
    fake: FakeLxc, settings: Settings
) -> None:
    fake.operations([copying(103)], then=[copying(200)])
    wait_for_operations(NAME, settings.project_name)
    assert len(fake.calls) == 2
    wait_for_operations(NAME, settings.project_name)
    assert len(fake.calls) == 3


@pytest.mark.parametrize(
    ("said", "attempts"),
    [
        ("Error: Stopping the instance failed: chown /var/x: disk quota exceeded", 2),
        ("Error: The instance is busy", 1),
    ],
)
def test_an_instance_whose_disk_is_full_is_deleted_by_a_second_attempt(
    fake: FakeLxc, settings: Settings, said: str, attempts: int
) -> None:
    fake.instances([instance(NAME, NOW)])
    fake.fail("delete --force", said)
    with pytest.raises(LXDError):
        delete_instance(NAME, settings.project_name)
    assert fake.changes == [f"delete --force {NAME}"] * attempts


def test_keep_instance_keeps_it_after_success(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    with launched(settings, keep=True):
        pass
    assert not [call for call in fake.changes if call.startswith("delete")]


def test_keep_instance_keeps_it_after_ctrl_c_with_nothing_running_in_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    with pytest.raises(InterruptedBuildError) as caught, launched(settings, keep=True):
        raise KeyboardInterrupt
    assert f"exec local:{NAME}" in caught.value.resolution
    assert fake.changes[-2:] == [
        f"restart --force {NAME}",
        f"config set {NAME} user.slurm_factory.kept=yes",
    ]


def test_a_poisoned_base_is_deleted_and_made_again(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [BaseCompatibilityError("instance is marked as not setup")] * 2
    launch = launcher(monkeypatch, *errors)
    fake.instances([instance(name, datetime.now(UTC)) for name in (BASE_NAME, OTHER_BASE)])
    with launched(settings):
        pass
    assert len(launch.calls) == 3
    assert fake.changes[:3] == [f"delete --force {n}" for n in (NAME, NAME, BASE_NAME)]
    assert f"delete --force {OTHER_BASE}" not in fake.changes


def test_a_copy_that_only_once_seems_incompatible_does_not_cost_the_base(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launcher(monkeypatch, BaseCompatibilityError("instance config is empty"))
    with launched(settings):
        pass
    assert len(launch.calls) == 2
    assert f"delete --force {BASE_NAME}" not in fake.changes


def test_a_base_that_stays_poisoned_is_given_up_in_the_end(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [BaseCompatibilityError("instance is marked as not setup")] * 9
    launch = launcher(monkeypatch, *errors)
    with pytest.raises(LXDError, match="marked as not setup"), launched(settings):
        pass
    assert len(launch.calls) == 3


def test_lxcs_transient_failure_while_launching_is_survived_with_the_base_intact(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launcher(monkeypatch, ProviderError("exec failed", details=f"Error: {TRANSIENT}"))
    with launched(settings):
        pass
    assert len(launch.calls) == 2
    assert f"delete --force {BASE_NAME}" not in fake.calls


@pytest.mark.parametrize("error", [ProviderError("apt failed"), KeyboardInterrupt()])
def test_a_base_that_was_only_begun_is_deleted(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def begin(_: FactoryBase) -> None:
        fake.instances([instance(BASE_NAME, NOW), instance(OTHER_BASE, NOW)])

    fake.instances([])
    launcher(monkeypatch, error).on_call = begin
    with pytest.raises((LXDError, KeyboardInterrupt)), launched(settings):
        pass
    assert fake.changes == [f"delete --force {BASE_NAME}", f"delete --force {NAME}"]


@pytest.mark.parametrize("error", [ProviderError("copy failed"), KeyboardInterrupt()])
def test_a_finished_base_survives_a_launch_that_fails(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    launcher(monkeypatch, error)
    with pytest.raises((LXDError, KeyboardInterrupt)), launched(settings):
        pass
    assert fake.changes == [f"delete --force {NAME}"]


SILENT = (
    requests.ConnectionError("Connection aborted."),
    pylxd.exceptions.ClientConnectionFailed("no socket"),
)


@pytest.mark.parametrize("error", SILENT, ids=lambda error: type(error).__name__)
def test_lxd_that_stops_answering_during_a_launch_is_not_told_as_a_full_cache(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    launcher(monkeypatch, error)
    with pytest.raises(LXDError) as caught, launched(settings):
        pass
    assert caught.value.details == str(error)
    assert "slurm-factory doctor" in caught.value.resolution
    assert fake.changes[-1] == f"delete --force {NAME}"


@pytest.mark.parametrize(
    "error",
    [*SILENT, subprocess.TimeoutExpired("lxc", 60)],
    ids=lambda error: type(error).__name__,
)
def test_lxd_that_stops_answering_at_the_mount_is_an_lxd_error(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def mount(**_: object) -> None:
        raise error

    launch = launcher(monkeypatch)
    monkeypatch.setattr(launch.instance, "mount", mount)
    with pytest.raises(LXDError, match="could not be talked to"), launched(settings):
        pass


def test_a_project_whose_making_was_broken_off_gets_its_profile_after_all(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        project_module, "create_with_default_profile", lambda project, **_: made.append(project)
    )
    ensure_project(settings, Listener())
    assert made == []
    fake.profile({})
    ensure_project(settings, Listener())
    assert made == [settings.project_name]


def test_lxd_that_hangs_while_the_project_is_made_is_no_traceback(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(**_: object) -> None:
        raise subprocess.TimeoutExpired("lxc", 60)

    fake.projects("default")
    fake.instances([])
    launcher(monkeypatch)
    monkeypatch.setattr(project_module, "create_with_default_profile", create)
    with pytest.raises(LXDError, match="could be launched"), launched(settings):
        pass


def test_a_cache_that_cannot_be_mounted_is_explained_and_leaves_no_instance(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount(**_: object) -> None:
        raise lxd.LXDError("mount", details="newuidmap:\n uid range not allowed")

    launch = launcher(monkeypatch)
    monkeypatch.setattr(launch.instance, "mount", mount)
    with pytest.raises(LXDError) as caught, launched(settings):
        pass
    assert caught.value.details == "newuidmap: uid range not allowed"
    assert "slurm-factory setup" in caught.value.resolution
    assert fake.changes[-1] == f"delete --force {NAME}"


def test_cleaning_up_that_fails_does_not_hide_the_reason(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.fail("delete --force", "Error: Get http://unix.socket: connection refused")
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    launcher(monkeypatch, ProviderError("no space"))
    with pytest.raises(LXDError, match="no space"), launched(settings):
        pass


# --- images -------------------------------------------------------------------------------------


def ensured(settings: Settings) -> ImageName:
    return ensure_image(DEBIAN, "x86_64", settings, Listener())


def test_an_image_that_was_made_here_needs_no_image_server(
    fake: FakeLxc, settings: Settings
) -> None:
    assert ensured(settings) == MADE_HERE
    assert not [call for call in fake.calls if "image info" in call]


def test_an_image_server_is_asked_before_an_image_is_made(
    fake: FakeLxc, settings: Settings
) -> None:
    fake.images([])
    assert ensured(settings) == ImageName("images", "debian/12")


def test_an_image_is_made_here_where_no_server_can_be_reached(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(images_module, "_bootstrap", lambda base, *_: made.append(base.name))
    fake.images([])
    fake.fail("image info", "Error: Get https://images.example: dial tcp: i/o timeout")
    assert ensured(settings) == MADE_HERE
    assert made == ["debian@12"]
    [imported] = fake.changes[-1:]
    assert imported == f"image import metadata.tar.gz rootfs.tar --alias {MADE_HERE.alias}"
    assert list(settings.images_dir.iterdir()) == [image_lock(settings)]


@pytest.mark.parametrize(
    "said",
    [
        'Error: Failed parsing stream: Get "https://images.example/x": lookup images.example: no',
        'Error: Get "https://images.example/": dial tcp 10.0.0.1:443: connect: connection refused',
        "Error: The requested image couldn't be found",
        'Error: The remote "images" doesn\'t exist',
    ],
)
def test_a_server_that_cannot_be_reached_or_has_no_such_image_is_none(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(images_module, "_bootstrap", lambda *_: None)
    fake.images([])
    fake.fail("image info", said)
    assert ensured(settings) == MADE_HERE


@pytest.mark.parametrize(
    "said",
    [
        'Error: Get "http://unix.socket/1.0": dial unix /x: connect: permission denied',
        "Error: open /home/u/.config/lxc/config.yml: permission denied",
        "Error: Failed loading client certificate",
        "",
    ],
)
def test_an_lxc_that_cannot_ask_is_no_reason_to_make_an_image(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(images_module, "_bootstrap", pytest.fail)
    fake.images([])
    fake.fail("image info", said)
    with pytest.raises(LXDError):
        ensured(settings)


def test_a_server_that_does_not_answer_is_no_reason_to_make_an_image_and_told_with_a_way_out(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: str, **__: object) -> str:
        raise TimedOutError("LXD did not answer within 60 s.")

    monkeypatch.setattr(images_module, "_bootstrap", pytest.fail)
    monkeypatch.setattr(images_module, "lxc", hang)
    fake.images([])
    with pytest.raises(LXDError, match="The image server images did not answer") as caught:
        ensured(settings)
    assert "SLURM_FACTORY_IMAGE_SERVER=false" in caught.value.resolution


def test_a_setting_keeps_image_servers_from_being_asked(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "_bootstrap", lambda *_: None)
    fake.images([])
    ensured(settings.model_copy(update={"image_server": False}))
    assert not [call for call in fake.calls if "image info" in call]


def test_a_machine_without_mmdebstrap_is_told_how_to_get_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only = tmp_path / "only"
    only.mkdir()
    for program in ("env", "bash"):
        (only / program).symlink_to(f"/usr/bin/{program}")
    fake.images([])
    monkeypatch.setenv("PATH", f"{fake.directory}:{only}")
    (only / "sh").symlink_to("/bin/sh")
    for program in ("cat", "tr", "sed"):
        (only / program).symlink_to(f"/usr/bin/{program}")
    fake.fail("image info", "Error: i/o timeout")
    with pytest.raises(LXDError) as caught:
        ensured(settings)
    assert caught.value.details == "mmdebstrap is not installed"
    assert "slurm-factory setup" in caught.value.resolution


# --- lxc ----------------------------------------------------------------------------------------


SAYS_NOT_STARTED = (
    "Error: The LXD daemon doesn't appear to be started (socket path: /var/lib/lxd/unix.socket)"
)
"""What lxc of Debian 13 writes whatever the cause."""


@pytest.mark.parametrize(
    ("said", "brief", "command"),
    [
        ("Error: write: No space left on device", "storage pool is full", "clean"),
        ("newuidmap: uid range not allowed", "may not be mapped", "setup"),
        ("Error: Project not found", "lxc image list failed", "doctor"),
        ("", "lxc image list failed", "doctor"),
    ],
)
def test_what_lxc_says_becomes_a_reason_and_a_command(
    fake: FakeLxc, said: str, brief: str, command: str
) -> None:
    error = explain(said, ["image", "list"])
    assert brief in error.brief
    assert f"slurm-factory {command}" in error.resolution
    assert error.details


@pytest.mark.parametrize(
    ("state", "brief", "command"),
    [
        (Daemon.DENIED, "You may not talk to LXD", "setup"),
        (Daemon.STOPPED, "daemon does not run", "setup"),
        (Daemon.SILENT, "does not answer", "doctor"),
    ],
)
@pytest.mark.parametrize("said", [SAYS_NOT_STARTED, "Error: no such file or directory", ""])
def test_the_daemons_socket_counts_and_not_what_lxc_says(
    monkeypatch: pytest.MonkeyPatch, state: Daemon, brief: str, command: str, said: str
) -> None:
    monkeypatch.setattr(lxc_module, "socket_state", lambda: state)
    error = explain(said, ["image", "list"])
    assert brief in error.brief
    assert "socket" in error.details
    assert "started" not in error.details
    assert f"slurm-factory {command}" in error.resolution


def test_new_member_of_lxds_group_gets_the_line_that_works_in_the_same_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = SAYS_NOT_STARTED
    monkeypatch.setattr(lxc_module, "socket_state", lambda: Daemon.DENIED)
    monkeypatch.setattr(sys, "argv", ["/x/slurm-factory", "build", "--additional-variants", "+a b"])
    monkeypatch.setattr(grp, "getgrnam", lambda _: SimpleNamespace(gr_gid=4711))
    groups = [4711]
    monkeypatch.setattr(os, "getgrouplist", lambda *_: groups)
    words = shlex.split(explain(said, ["list"]).resolution.partition("run: ")[2])
    assert words[:3] == ["sg", "lxd", "-c"]
    assert shlex.split(words[3]) == ["slurm-factory", "build", "--additional-variants", "+a b"]
    groups.clear()
    assert explain(said, ["list"]).resolution == "Run `slurm-factory setup`."


def test_a_machine_without_lxc_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LXDError, match="LXD is not installed") as caught:
        lxc("list", project="p")
    assert "slurm-factory setup" in caught.value.resolution


def test_an_lxc_that_hangs_is_given_up(fake: FakeLxc) -> None:
    (fake.directory / "lxc").write_text("#!/bin/sh\nexec sleep 100\n")
    with pytest.raises(LXDError, match="did not answer"):
        lxc("list", project="p", timeout=0.1)


def test_an_answer_of_lxc_that_is_not_utf_8_is_no_traceback(fake: FakeLxc) -> None:
    (fake.directory / "lxc").write_text("#!/bin/sh\nprintf 'caf\\351'\n")
    assert lxc("list", project="p") == "caf�"
