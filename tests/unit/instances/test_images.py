"""Images: the sources of their packages, where they are taken from, and how they are made."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from fake_lxc import FakeLxc, image
from launch_samples import DEBIAN, MADE_HERE, PATIENCE, UBUNTU, image_lock
from plan_samples import sample_settings
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.exceptions import LXDError
from slurm_factory.instances import images as images_module
from slurm_factory.instances.images import ImageName, ensure_image, sources_list
from slurm_factory.instances.lxc import TimedOutError
from slurm_factory.plan.bases import Base


def test_without_a_mirror_the_sources_are_the_distributions_own(
    fake: FakeLxc, settings: Settings
) -> None:
    assert sources_list(DEBIAN, settings, "x86_64").splitlines() == [
        "deb http://deb.debian.org/debian bookworm main",
        "deb http://deb.debian.org/debian bookworm-updates main",
        "deb http://security.debian.org/debian-security bookworm-security main",
    ]


def test_a_mirror_serves_the_archive_and_the_security_archive_beside_it(
    fake: FakeLxc, tmp_path: Path
) -> None:
    settings = sample_settings(tmp_path, debian_mirror="http://mirror.example/debian/")
    lines = sources_list(DEBIAN, settings, "x86_64").splitlines()
    assert lines[0] == "deb http://mirror.example/debian/ bookworm main"
    assert lines[2] == "deb http://mirror.example/debian-security bookworm-security main"
    settings = sample_settings(tmp_path, debian_mirror="http://mirror.example/bookworm")
    assert "security.debian.org" in sources_list(DEBIAN, settings, "x86_64")


def test_the_mirror_of_this_machine_is_used_only_for_its_own_distribution(
    fake: FakeLxc, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sources.list").write_text("deb http://near.example/debian bookworm main\n")
    monkeypatch.setattr(images_module, "ETC_APT", tmp_path)
    assert "near.example" in sources_list(DEBIAN, settings, "x86_64")
    assert "near.example" not in sources_list(UBUNTU, settings, "x86_64")
    assert "noble main universe" in sources_list(UBUNTU, settings, "x86_64")


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
def test_an_lxc_that_cannot_ask_is_not_a_reason_to_make_an_image(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(images_module, "_bootstrap", pytest.fail)
    fake.images([])
    fake.fail("image info", said)
    with pytest.raises(LXDError):
        ensured(settings)


def test_a_server_that_does_not_answer_is_not_a_reason_to_make_an_image_and_reported_with_a_way_out(
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


def test_a_machine_without_mmdebstrap_is_shown_how_to_get_it(
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
