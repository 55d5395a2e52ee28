from pathlib import Path

import pytest

from slurm_factory.fetch.apt_mirrors import configured_mirrors, debian_pool_urls

DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture
def etc_apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_a_machine_without_apt_has_no_mirrors(tmp_path: Path) -> None:
    assert configured_mirrors(tmp_path / "none", "debian") == ()


def test_debian_12_container_image_yields_its_mirror_but_not_the_security_archive(
    etc_apt: Path,
) -> None:
    (etc_apt / "sources.list.d/debian.sources").write_text(
        "Types: deb\n"
        "# http://snapshot.debian.org/archive/debian/20250520T000000Z\n"
        "URIs: http://deb.debian.org/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\n"
        f"Signed-By: {DEBIAN_KEYRING}\n"
        "\n"
        "Types: deb\n"
        "URIs: http://deb.debian.org/debian-security\n"
        "Suites: bookworm-security\n"
        "Components: main\n"
        f"Signed-By: {DEBIAN_KEYRING}\n"
    )
    assert configured_mirrors(etc_apt, "debian") == ("http://deb.debian.org/debian",)
    assert configured_mirrors(etc_apt, "ubuntu") == ()


def test_ubuntu_24_04_deb822_file_with_continuation_lines_is_read(etc_apt: Path) -> None:
    (etc_apt / "sources.list.d/ubuntu.sources").write_text(
        "types: deb deb-src\n"
        "URIs:\n http://de.archive.ubuntu.com/ubuntu/\n# a comment inside\n"
        "\thttps://mirror.example/ubuntu\n"
        "Suites: noble noble-updates noble-backports\n"
        "Components: main restricted universe multiverse\n"
        "Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n"
        "  \n"
        "Types: deb\nURIs: http://security.ubuntu.com/ubuntu/\nSuites: noble-security\n"
        "Components: main\n"
    )
    assert configured_mirrors(etc_apt, "ubuntu") == (
        "http://de.archive.ubuntu.com/ubuntu",
        "https://mirror.example/ubuntu",
    )


@pytest.mark.parametrize(
    "line",
    [
        "deb https://mirror.example/debian bookworm main",
        "deb\thttps://mirror.example/debian/\tbookworm  main contrib # comment",
        "deb [arch=amd64] https://mirror.example/debian bookworm main",
        f"deb [ arch=amd64 signed-by={DEBIAN_KEYRING} ] https://mirror.example/debian trixie main",
        f"deb [signed-by={DEBIAN_KEYRING}]https://mirror.example/debian trixie non-free main",
    ],
)
def test_one_line_style_with_options_and_comments_is_read(etc_apt: Path, line: str) -> None:
    (etc_apt / "sources.list").write_text(f"# {line}x\n{line}\n")
    assert configured_mirrors(etc_apt, "debian") == ("https://mirror.example/debian",)


@pytest.mark.parametrize(
    "line",
    [
        "deb-src https://mirror.example/debian bookworm main",
        "deb cdrom:[Debian GNU/Linux 12.0.0 _Bookworm_]/ bookworm main",
        "deb https://security.debian.org/debian-security bookworm-security main",
        "deb https://security.debian.org/debian-security buster/updates main",
        "deb https://download.docker.com/linux/debian bookworm stable",
        "deb [signed-by=/etc/apt/keyrings/x.gpg] https://x.example/runner/debian bookworm main",
        "deb https://dl.google.com/linux/chrome/deb stable main",
        "deb https://mirror.example/debian ./",
        "deb mirror+https://mirror.example/debian-list bookworm main",
        "deb tor+http://debian.onion/debian bookworm main",
        "deb",
        "deb [arch=amd64 https://mirror.example/debian",
        "\x00\x01 debian",
    ],
)
def test_what_is_not_a_mirror_of_the_distribution_is_left_out(etc_apt: Path, line: str) -> None:
    (etc_apt / "sources.list.d/other.list").write_text(f"{line}\n")
    assert configured_mirrors(etc_apt, "debian") == ()


def test_personal_package_archives_are_not_taken_for_ubuntu(etc_apt: Path) -> None:
    (etc_apt / "sources.list.d/ppa.list").write_text(
        "deb http://ppa.launchpad.net/deadsnakes/ppa/ubuntu jammy main\n"
        "deb https://me:secret@private-ppa.launchpadcontent.net/x/y/ubuntu jammy main\n"
    )
    assert configured_mirrors(etc_apt, "ubuntu") == ()


def test_a_disabled_stanza_is_left_out(etc_apt: Path) -> None:
    (etc_apt / "sources.list.d/debian.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://old.example/debian\nSuites: sid\nComponents: main\n"
    )
    assert configured_mirrors(etc_apt, "debian") == ()


def test_mirror_file_of_cloud_images_is_followed(etc_apt: Path) -> None:
    (etc_apt / "mirrors").mkdir()
    (etc_apt / "mirrors/debian.list").write_text(
        "# near ones\nhttps://near.example/debian/\tpriority:1\nhttps://deb.debian.org/debian\n"
    )
    (etc_apt / "sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\n"
        "Suites: trixie\nComponents: main\n"
    )
    assert configured_mirrors(etc_apt, "debian") == (
        "https://near.example/debian",
        "https://deb.debian.org/debian",
    )
    assert configured_mirrors(etc_apt, "ubuntu") == ()


def test_snapshots_duplicates_local_directories_and_broken_bytes(etc_apt: Path) -> None:
    snapshot = "http://snapshot.debian.org/archive/debian/20250520T000000Z"
    (etc_apt / "sources.list").write_bytes(
        b"\xff\xfe broken\n"
        + f"deb [check-valid-until=no] {snapshot} bookworm main\n".encode() * 2
        + b"deb file:/srv/mirror/debian/ bookworm main\r\n"
    )
    assert configured_mirrors(etc_apt, "debian") == (snapshot, "file:///srv/mirror/debian")


def test_unreadable_file_does_not_hide_the_others(etc_apt: Path) -> None:
    (etc_apt / "sources.list").mkdir()
    (etc_apt / "sources.list.d/a.list").write_text("deb http://a.example/debian sid main\n")
    assert configured_mirrors(etc_apt, "debian") == ("http://a.example/debian",)


def test_pool_urls_end_with_the_public_archive_and_name_it_once() -> None:
    path = "pool/main/s/slurm-wlm/slurm-wlm_24.11.5.orig.tar.gz"
    own = "http://near.example/debian/"
    assert debian_pool_urls(path, [own]) == (
        f"http://near.example/debian/{path}",
        f"https://deb.debian.org/debian/{path}",
    )
    assert debian_pool_urls(path, ["http://deb.debian.org/debian"]) == (
        f"http://deb.debian.org/debian/{path}",
    )
