"""deploy.sh, with small packages: what it leaves, whatever happens."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from deploy_samples import Place, job_state, make_package

from slurm_factory import completion, resources
from slurm_factory.constants import ROLES
from slurm_factory.package.deployment import DEPLOYMENT
from slurm_factory.plan.releases import catalog

KILLED = 30


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "a prefix")


@pytest.fixture
def image(tmp_path: Path) -> Place:
    """The tree of another machine, with users and no Slurm."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    return Place(Path("/opt/slurm"), root)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make_package(tmp_path, "24.11.5")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return make_package(tmp_path, "25.05.8")


def test_package_is_unpacked_beside_others_and_current_leads_to_it(
    place: Place, old: Path, new: Path
) -> None:
    assert place.deploy(old).code == 0
    assert place.current == "slurm-24.11.5"
    done = place.deploy(new)
    assert done.code == 0, done.errors
    assert done.said.splitlines()[-1].endswith("switched to slurm-25.05.8, from slurm-24.11.5")
    assert place.current == "slurm-25.05.8"
    assert place.names == {"slurm-24.11.5", "slurm-25.05.8"}
    assert str((place.top / "current").readlink()) == "versions/slurm-25.05.8", "relative"


def test_link_that_is_right_is_never_touched(place: Place, old: Path) -> None:
    place.deploy(old)
    before = identity_of(place.top / "current")
    done = place.deploy(old)
    assert "is slurm-24.11.5 already" in done.said
    assert identity_of(place.top / "current") == before


def identity_of(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns


def test_another_package_of_the_same_name_gets_one_of_its_own(place: Place, old: Path) -> None:
    place.deploy(old)
    other = make_package(old.parent, "24.11.5", files=1)
    done = place.deploy(other)
    assert done.code == 0, done.errors
    assert place.current.startswith("slurm-24.11.5-")
    assert len(place.names) == 2
    assert len(place.names) == 2


def test_modules_lead_to_the_files_beside_the_tree(place: Place, old: Path) -> None:
    place.deploy(old)
    link = place.top / "modules/slurm/24.11.5.lua"
    assert link.resolve() == place.top / "versions/slurm-24.11.5/modules/slurm/24.11.5.lua"
    assert (place.top / "modulefiles/slurm/24.11.5").is_file()


def test_package_without_module_files_can_be_deployed(place: Place, old: Path) -> None:
    old.with_name("slurm-24.11.5-module.tar.gz").unlink()
    assert place.deploy(old).code == 0


def test_module_files_that_contradict_the_checksums_are_refused(place: Place, old: Path) -> None:
    module = old.with_name("slurm-24.11.5-module.tar.gz")
    whole = module.read_bytes()
    module.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = place.deploy(old)
    assert done.code == 6
    assert f"{module} is damaged" in done.errors
    old.with_name("slurm-24.11.5.sha256").unlink()
    done = place.deploy(old, "--module-sha256", hashlib.sha256(whole).hexdigest().upper())
    assert done.code == 6
    assert f"{module} is damaged" in done.errors
    assert not place.prefix.exists()
    module.write_bytes(whole)
    done = place.deploy(old, "--module-sha256", hashlib.sha256(whole).hexdigest())
    assert done.code == 0, done.errors


def test_way_back_leads_to_the_version_before_and_forth_again(
    place: Place, old: Path, tmp_path: Path
) -> None:
    newer = make_package(tmp_path, "24.11.7")
    place.deploy(old)
    place.deploy(newer)
    assert place.deploy("--rollback").code == 0
    assert place.current == "slurm-24.11.5"
    assert place.deploy("--rollback").code == 0
    assert place.current == "slurm-24.11.7"


def test_version_that_is_named_becomes_current_once(place: Place, old: Path, new: Path) -> None:
    place.deploy(old)
    place.deploy(new)
    for _ in range(2):
        assert place.deploy("--switch", "slurm-24.11.5").code == 0
        assert place.current == "slurm-24.11.5"


def test_absolute_link_counts_as_current(place: Place, old: Path) -> None:
    place.deploy(old)
    link = place.top / "current"
    target = link.resolve()
    link.unlink()
    link.symlink_to(target)
    assert place.deploy("--list", "--json").document["versions"][0]["current"] is True
    assert "is current" in place.deploy("--remove", "slurm-24.11.5").errors


def test_there_may_be_nothing_to_go_back_to(place: Place, old: Path) -> None:
    place.deploy(old)
    done = place.deploy("--rollback")
    assert done.code == 2
    assert done.errors.startswith("Error: There is no version to go back to.\n")
    assert Place(place.prefix.with_name("nothing")).deploy("--rollback").code == 2


def test_unpacking_alone_leaves_what_is_current(place: Place, old: Path, new: Path) -> None:
    place.deploy(old)
    assert place.deploy(new, "--no-switch").code == 0
    assert place.current == "slurm-24.11.5"
    assert place.names == {"slurm-24.11.5", "slurm-25.05.8"}


def test_dry_run_changes_nothing(image: Place, old: Path) -> None:
    before = sorted(Path(f"{image.root}").rglob("*"))
    done = image.deploy(old, "--role", "controller,dbd", "--config", "hpc", "--dry-run")
    assert done.code == 0, done.errors
    assert "/etc/systemd/system/slurmctld.service: would be written" in done.said
    assert "/opt/slurm/current: would be switched to slurm-24.11.5" in done.said
    assert sorted(Path(f"{image.root}").rglob("*")) == before


# --- the machine and the package ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "why"),
    [
        ({"glibc": "2.99"}, 3, "It needs glibc 2.99, and this machine has"),
        ({"glibc": "3.0"}, 3, "It needs glibc 3.0"),
        ({"arch": "s390x"}, 3, "It is for s390x"),
        ({"cpu": "x86_64_v9", "cpu_features": "ssse3 telepathy"}, 3, "lacks telepathy"),
        ({"libraries": "libc.so.6 libabsent.so.4"}, 3, "missing: libabsent.so.4"),
        ({"size": "99999999999"}, 7, "The package needs"),
        ({"format": "2"}, 2, "Its format is 2; this deploy.sh knows 1."),
        ({"stem": "../../etc"}, 6, "Its package.conf has no stem."),
        ({"size": "$(reboot)"}, 6, "Its package.conf has no size."),
        ({"rest_without_dbd": "x;id|e;s|a|a"}, 6, "characters that no package has"),
        ({"libraries": "`reboot`"}, 6, "characters that no package has"),
    ],
)
def test_package_that_cannot_run_here_is_refused_before_anything_is_written(
    place: Place, tmp_path: Path, changes: dict[str, str], code: int, why: str
) -> None:
    package = make_package(tmp_path, changes=changes)
    done = place.deploy(package)
    assert done.code == code, done.errors
    lines = done.errors.splitlines()
    assert lines[0].startswith("Error: ")
    assert why in lines[1]
    assert len(lines) == 3
    assert not place.prefix.exists()


def test_program_that_does_not_start_leaves_what_is_current(place: Place, old: Path) -> None:
    place.deploy(old)
    directory = old.parent / "broken"
    directory.mkdir()
    package = make_package(directory, "24.11.6")
    with_broken_program(package)
    done = place.deploy(package)
    assert done.code == 6
    assert place.current == "slurm-24.11.5"
    assert place.names == {"slurm-24.11.5"}


def with_broken_program(package: Path) -> None:
    tree = package.parent / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xzf", package, "-C", tree], check=True)
    (tree / "software/sbin/slurmd").write_text("#!/bin/sh\nexit 127\n")
    subprocess.run(["tar", "-czf", package, "-C", tree, "software"], check=True)
    package.with_name(package.name.replace("-software.tar.gz", ".sha256")).unlink()


def test_flipped_byte_is_noticed_by_the_checksum_beside_the_package(
    place: Place, old: Path
) -> None:
    content = bytearray(old.read_bytes())
    content[-1] ^= 1
    old.write_bytes(content)
    done = place.deploy(old)
    assert done.code == 6
    assert "is damaged" in done.errors or "cannot be unpacked" in done.errors


def test_checksum_on_the_command_line_counts_more_than_the_file(place: Place, old: Path) -> None:
    done = place.deploy(old, "--sha256", "0" * 64)
    assert done.code == 6
    assert "Its checksum is" in done.errors


@pytest.mark.parametrize("content", [b"", b"no tarball", b"\x1f\x8b\x08\x00"])
def test_file_that_is_no_package_is_refused(place: Place, tmp_path: Path, content: bytes) -> None:
    package = tmp_path / "x-software.tar.gz"
    package.write_bytes(content)
    done = place.deploy(package)
    assert done.code in {2, 6}
    assert done.errors.splitlines()[-3].startswith("Error: ")
    assert not place.prefix.exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "There is nothing to do."),
        (("--role", "king"), "There is no role king."),
        (("--prefix", "opt"), "--prefix opt is no absolute path."),
        (("--prefix", "/a:b"), "has characters that a unit or a run path cannot hold."),
        (("--prefix", "/a$(reboot)"), "has characters"),
        (("--config", "My Cluster", "--role", "controller"), "a cluster cannot be named"),
        (("--config", "hpc", "--role", "compute"), "--config with --role needs --role controller."),
        (("--nodes", "n1;reboot", "--config", "hpc", "--role", "controller"), "no list of nodes"),
        (("--keep", "0"), "--keep: 0 is no number of versions above 0."),
        (("--keep", "many"), "--keep: many is no number"),
        (("--remove", "../x"), "--remove: ../x is no name of a version."),
        (("--plan-upgrade", "24.11"), "--plan-upgrade needs two series."),
        (("--plan-upgrade", "24.11", "24.05"), "24.05 is not newer than 24.11."),
        (("--plan-upgrade", "1.2", "24.05"), "There is no series 1.2."),
        (("--sudo",), "There is no option --sudo."),
        (("--root=",), "--root needs a value."),
        (("--root", "/"), "--root needs a directory below /."),
        (("--prefix=",), "--prefix needs a value."),
        (("--list", "--remove", "x"), "--list and --remove exclude each other."),
        (("--rollback", "--no-switch"), "--no-switch and --rollback exclude each other."),
        (("--slurm-uid", "500\n1"), "--slurm-uid: 500"),
        (("--keep", "08"), "--keep: 08 is no number of versions above 0."),
        (("--switch", "slurm-1"), "There is no version slurm-1 in"),
        (("--prefix",), "--prefix needs a value."),
        (("absent-software.tar.gz",), "There is no file absent-software.tar.gz."),
    ],
)
def test_wrong_usage_says_what_is_wrong(place: Place, words: tuple[str, ...], what: str) -> None:
    done = place.deploy(*words)
    assert done.code == 2, done.errors
    assert what in done.errors.splitlines()[0]
    document = place.deploy("--json", *words).document
    assert what in document["error"]["brief"]


# --- bad days -----------------------------------------------------------------------------------


def test_current_names_a_complete_version_wherever_it_is_killed(
    place: Place, tmp_path: Path
) -> None:
    """A package is deployed again and again, and killed at random moments; then it is done."""
    packages = [make_package(tmp_path, f"24.11.{n}", files=300) for n in (5, 6)]
    assert place.deploy(packages[0]).code == 0
    begun = time.monotonic()
    assert place.deploy(packages[1]).code == 0
    lasts = time.monotonic() - begun
    chance = random.Random(11)
    for number in range(KILLED):
        package = packages[number % 2]
        name = package.name.removesuffix("-software.tar.gz")
        if place.current != name:
            shutil.rmtree(place.top / "versions" / name, ignore_errors=True)
        with subprocess.Popen(
            place.words(package),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            time.sleep(chance.uniform(0, lasts))
            os.killpg(process.pid, signal.SIGKILL)
        assert place.current
        for each in place.names:
            assert each.startswith(".") or (place.top / "versions" / each / "deployed").exists()
    for package in packages:
        assert place.deploy(package).code == 0
    assert place.names == {"slurm-24.11.5", "slurm-24.11.6"}, "nothing half is left"
    assert not [path.name for path in place.top.iterdir() if path.name.startswith(".current")]


def test_interrupted_deployment_leaves_nothing_behind(place: Place, tmp_path: Path) -> None:
    package = make_package(tmp_path, files=3000)
    with subprocess.Popen(
        place.words(package),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not list(place.prefix.glob("versions/.partial.*")):
            assert process.poll() is None, "it was faster than us"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[0] == "Error: Interrupted."
    assert not list((place.top / "versions").iterdir())


def test_second_deployment_at_once_is_refused(place: Place, old: Path, new: Path) -> None:
    place.deploy(old)
    with subprocess.Popen(["flock", place.top / ".lock", "cat"], stdin=subprocess.PIPE) as holder:
        while (
            subprocess.run(["flock", "-n", place.top / ".lock", "true"], check=False).returncode
            == 0
        ):
            assert holder.poll() is None
        done = place.deploy(new)
        assert holder.stdin
        holder.stdin.close()
    assert done.code == 3
    assert "Another deployment" in done.errors


def test_version_in_use_or_current_is_not_removed(place: Place, old: Path, tmp_path: Path) -> None:
    place.deploy(old)
    place.deploy(make_package(tmp_path, "24.11.6"))
    assert "is current" in place.deploy("--remove", "slurm-24.11.6").errors
    program = place.top / "versions/slurm-24.11.5/software/bin/cat"
    program.parent.mkdir()
    shutil.copy("/bin/cat", program)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as running:
        done = place.deploy("--remove", "slurm-24.11.5")
        assert done.code == 2
        assert "slurm-24.11.5 is in use." in done.errors
        assert place.deploy("--keep", "1").code == 0
        assert place.names == {"slurm-24.11.5", "slurm-24.11.6"}
        assert running.stdin
        running.stdin.close()
    assert place.deploy("--remove", "slurm-24.11.5").code == 0
    assert place.names == {"slurm-24.11.6"}
    assert not (place.top / "modules/slurm/24.11.5.lua").is_symlink()


def test_version_to_go_back_to_stays(place: Place, tmp_path: Path) -> None:
    packages = [make_package(tmp_path, f"24.11.{number}") for number in range(4)]
    for number in (0, 1, 2, 0):
        place.deploy(packages[number])
        _age(place, number)
    dry = place.deploy(packages[3], "--keep", "1", "--dry-run", "--json").document["deploy"]
    done = place.deploy(packages[3], "--keep", "1", "--json").document["deploy"]
    assert done["removed"] == ["slurm-24.11.2", "slurm-24.11.1"]
    assert dry["removed"] == done["removed"]
    assert place.names == {"slurm-24.11.0", "slurm-24.11.3"}
    assert place.deploy("--rollback").code == 0
    assert place.current == "slurm-24.11.0"


def _age(place: Place, number: int) -> None:
    """Let a version be deployed in the second of this number."""
    deployed = place.top / "versions" / f"slurm-24.11.{number}" / "deployed"
    lines = [line for line in deployed.read_text().splitlines() if not line.startswith("time=")]
    deployed.write_text("\n".join([*lines, f"time={number + 1}", ""]))


def test_older_versions_go_and_the_current_one_stays(place: Place, tmp_path: Path) -> None:
    for number in range(3):
        place.deploy(make_package(tmp_path, f"24.11.{number}"))
        _age(place, number)
    assert place.deploy("--keep", "2", "--dry-run").code == 0
    assert len(place.names) == 3
    done = place.deploy("--keep", "2", "--json")
    assert done.document == {"version": 1, "removed": ["slurm-24.11.0"]}
    assert place.names == {"slurm-24.11.1", "slurm-24.11.2"}


def test_versions_are_listed_with_what_they_are(place: Place, old: Path, new: Path) -> None:
    place.deploy(old)
    place.deploy(new)
    versions = {
        each["name"]: each for each in place.deploy("--list", "--json").document["versions"]
    }
    assert versions["slurm-25.05.8"]["current"] is True
    assert versions["slurm-24.11.5"]["previous"] is True
    assert versions["slurm-24.11.5"]["in_use"] is False
    shown = ("name", "release", "sha256", "time", "current")
    old_one = {key: versions["slurm-24.11.5"][key] for key in shown}
    assert old_one | {"time": 0, "sha256": ""} == {
        "name": "slurm-24.11.5", "release": "24.11.5", "sha256": "", "time": 0, "current": False,
    }  # fmt: skip
    assert "slurm-24.11.5\t24.11.5\t" in place.deploy("--list").said


# --- SchedMD's rules ----------------------------------------------------------------------------


def test_table_of_series_is_that_of_the_catalog() -> None:
    rows = [
        line.split() for line in resources.deploy_file("series.txt").splitlines() if line[0] != "#"
    ]
    assert [int(row[1]) for row in rows] == sorted(int(row[1]) for row in rows)
    assert {release.series for release in catalog()} <= {row[0] for row in rows}
    names = [row[0] for row in rows]
    for at, (name, _, *accepted) in enumerate(rows):
        # "With the change to a 6-month cycle in 2024, Slurm 24.11 introduced compatibility with
        # the previous three major releases" (upgrades.html).
        count = 3 if name >= "24.11" else 2
        known = list(reversed(names[max(0, at - count) : at]))
        assert accepted[: len(known)] == known
        assert len(accepted) == count


@pytest.mark.parametrize(
    ("protocol", "release", "code"),
    [
        (42, "24.11.5", 0),
        (39, "24.11.5", 0),
        (38, "24.11.5", 2),
        (39, "25.05.8", 2),
        (40, "25.05.8", 0),
        (43, "24.11.5", 2),
        (60, "25.05.8", 2),
        (12, "25.05.8", 2),
    ],
)
def test_state_of_a_controller_decides_what_may_read_it(
    image: Place, tmp_path: Path, protocol: int, release: str, code: int
) -> None:
    conf = Path(f"{image.root}/etc/slurm/slurm.conf")
    conf.parent.mkdir()
    conf.write_text("ClusterName=x\n statesavelocation = /srv/state # here\n")
    job_state(Path(f"{image.root}/srv/state"), protocol)
    done = image.deploy(make_package(tmp_path, release))
    assert done.code == code, done.errors
    if code:
        assert not (image.top / "versions").exists()


@pytest.mark.parametrize(
    "line",
    [
        "STATESAVELOCATION=/srv/state",
        'StateSaveLocation = "/srv/state" # here',
        "Include more.conf",
    ],
)
def test_state_is_found_however_slurm_conf_names_it(
    image: Place, tmp_path: Path, line: str
) -> None:
    conf = Path(f"{image.root}/etc/slurm")
    conf.mkdir()
    (conf / "slurm.conf").write_text(f"{line}\n")
    (conf / "more.conf").write_text("StateSaveLocation=/srv/state\n")
    job_state(Path(f"{image.root}/srv/state"), 39)
    assert image.deploy(make_package(tmp_path, "26.05.3")).code == 2


def test_default_of_slurm_conf_is_where_slurm_looks(image: Place, tmp_path: Path) -> None:
    conf = Path(f"{image.root}/etc/slurm/slurm.conf")
    conf.parent.mkdir()
    conf.write_text("ClusterName=x\n")
    job_state(Path(f"{image.root}/var/spool"), 39)
    assert image.deploy(make_package(tmp_path, "26.05.3")).code == 2


def test_what_slurmdbd_has_converted_and_what_slurmctld_still_has_both_count(
    image: Place, tmp_path: Path
) -> None:
    """slurmdbd is upgraded first; the next hop must wait for slurmctld."""
    job_state(Path(f"{image.root}/var/spool/slurmctld"), 39)
    started = Path(f"{image.root}/var/lib/slurm-factory/slurmdbd")
    started.parent.mkdir(parents=True)
    started.write_text("format=1\nseries=24.11\n")
    assert "from 23.02 to 26.05" in image.deploy(make_package(tmp_path, "26.05.3")).errors
    older = image.deploy(make_package(tmp_path, "24.05.8"))
    assert "What slurmdbd has written belongs to 24.11" in older.errors
    assert image.deploy(make_package(tmp_path, "24.11.5")).code == 0


def test_refusal_of_a_jump_says_the_legal_way(image: Place, tmp_path: Path) -> None:
    job_state(Path(f"{image.root}/var/spool/slurmctld"), 39)
    done = image.deploy(make_package(tmp_path, "26.05.3"))
    assert done.code == 2
    assert done.errors.splitlines()[0] == (
        "Error: Slurm cannot be upgraded from 23.02 to 26.05 at once."
    )
    assert "23.02 -> 24.11 -> 26.05" in done.errors


def test_older_version_needs_a_backup_that_it_can_read(image: Place, tmp_path: Path) -> None:
    job_state(Path(f"{image.root}/var/spool/slurmctld"), 43)
    package = make_package(tmp_path, "24.11.5")
    done = image.deploy(package)
    assert done.code == 2
    assert "--state-backup" in done.errors
    newer = job_state(tmp_path / "newer", 43).parent
    assert "24.11 cannot read" in image.deploy(package, "--state-backup", newer).errors
    assert "is no backup" in image.deploy(package, "--state-backup", tmp_path).errors
    saved = job_state(tmp_path / "older", 42).parent
    archive = tmp_path / "older.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", saved, "."], check=True)
    for backup in (saved, archive):
        done = image.deploy(package, "--state-backup", backup)
        assert done.code == 0, done.errors
        assert f"restore {backup} to /var/spool/slurmctld" in done.said


def test_every_step_of_a_plan_is_one_that_its_series_accepts(place: Place) -> None:
    rows = [
        line.split() for line in resources.deploy_file("series.txt").splitlines() if line[0] != "#"
    ]
    accepted = {name: others for name, _, *others in rows}
    names = list(accepted)
    for begin in names:
        for end in names[names.index(begin) + 1 :]:
            document = place.deploy("--plan-upgrade", begin, end, "--json").document
            hops = document["upgrade"]["hops"]
            assert hops[-1] == end
            for older, newer in zip([begin, *hops], hops, strict=False):
                assert older in accepted[newer]
    text = place.deploy("--plan-upgrade", "23.02", "26.05").said
    assert "2 upgrades: 23.02 -> 24.11 -> 26.05" in text
    assert "point of no return" in text


# --- units, users, configuration ----------------------------------------------------------------


def need_sysusers() -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is missing: apt-get install systemd")


def test_roles_write_units_users_and_directories_and_the_first_configuration(
    image: Place, old: Path
) -> None:
    need_sysusers()
    done = image.deploy(
        old, *("--role", "controller,dbd", "--role=compute,rest"), *("--config", "hpc", "--json")
    )
    assert done.code == 0, done.errors
    etc = Path(f"{image.root}/etc")
    units = {path.name for path in (etc / "systemd/system").glob("*.service")}
    assert units == {
        f"{name}.service" for name in ("munge", "slurmctld", "slurmdbd", "slurmd", "slurmrestd")
    }
    for unit in units:
        text = (etc / "systemd/system" / unit).read_text()
        assert 'ExecStart="/opt/slurm/current/software/sbin/' in text
        assert "@" not in text
    users = (etc / "passwd").read_text()
    assert "slurm:x:64030:64030:" in users
    assert "slurmrestd" in users
    conf = (etc / "slurm/slurm.conf").read_text()
    assert "@" not in conf
    assert "ClusterName=hpc\n" in conf
    assert "AccountingStorageHost=" in conf
    assert "CPUs=2 Boards=1 RealMemory=900 State=UNKNOWN\n" in conf
    for name in ("slurmdbd.conf", "jwt_hs256.key", "database.sql"):
        assert (etc / "slurm" / name).stat().st_mode & 0o077 == 0, name
    password = (etc / "slurm/database.sql").read_text().split("'")[1]
    assert f"StoragePass={password}\n" in (etc / "slurm/slurmdbd.conf").read_text()
    assert len(password) == 32
    assert (etc / "munge/munge.key").stat().st_mode & 0o777 == 0o600
    assert "/etc/slurm/slurm.conf" in done.document["deploy"]["files"]
    assert any(step.startswith("mariadb <") for step in done.document["deploy"]["next"])
    # Once more, nothing is written, and the configuration of a cluster is not replaced.
    again = image.deploy(old, "--role", "controller,dbd,compute,rest", "--json")
    assert again.document["deploy"]["files"] == []
    refused = image.deploy(old, "--role", "controller", "--config", "hpc")
    assert refused.code == 2
    assert "There is a /etc/slurm/slurm.conf already." in refused.errors


def test_cluster_without_accounting_names_no_database(image: Place, old: Path) -> None:
    need_sysusers()
    words = ("--role", "controller,compute,rest", "--config", "hpc", "--nodes", "n[1-3],gpu1")
    done = image.deploy(old, *words)
    assert done.code == 0, done.errors
    conf = Path(f"{image.root}/etc/slurm/slurm.conf").read_text()
    assert "AccountingStorage" not in conf
    assert "NodeName=n[1-3],gpu1 CPUs=2" in conf
    assert not Path(f"{image.root}/etc/slurm/slurmdbd.conf").exists()
    unit = Path(f"{image.root}/etc/systemd/system/slurmrestd.service").read_text()
    assert "-s slurmctld" in unit


def test_script_program_and_package_know_the_same_roles(tmp_path: Path) -> None:
    script = resources.deploy_file("deploy.sh")
    [pairs] = re.findall(r"^ROLES='(.*)'$", script, re.MULTILINE)
    assert tuple(pair.partition(":")[0] for pair in pairs.split()) == ROLES
    assert completion.roles("") == list(ROLES)
    usage = re.search(r"write units for (.*)", script)
    assert usage
    assert re.findall(r"\w+", usage[1].replace(" and ", " ")) == list(ROLES)
    package = make_package(tmp_path)
    facts = subprocess.run(
        ["tar", "-xzOf", package, f"software/{DEPLOYMENT}/package.conf"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"roles={' '.join(ROLES)}\n" in facts


def test_configuration_without_roles_is_for_daemons_that_somebody_else_starts(
    image: Place, old: Path
) -> None:
    refused = image.deploy(old, "--config", "hpc")
    assert refused.code == 2
    assert "There is no user slurm." in refused.errors
    assert not (image.top / "versions").exists()
    etc = Path(f"{image.root}/etc")
    (etc / "passwd").write_text(f"slurm:x:{os.getuid()}:{os.getgid()}::/nonexistent:/bin/false\n")
    done = image.deploy(old, "--config", "hpc")
    assert done.code == 0, done.errors
    conf = (etc / "slurm/slurm.conf").read_text()
    assert "ProctrackType=proctrack/pgid\n" in conf
    assert "CgroupPlugin=disabled\n" in (etc / "slurm/cgroup.conf").read_text()
    assert "AccountingStorage" not in conf
    assert {path.name for path in etc.iterdir()} == {"group", "munge", "passwd", "slurm"}
    # Users and units that come later do not replace it.
    again = image.deploy(old, "--config", "hpc")
    assert "There is a /etc/slurm/slurm.conf already." in again.errors


def test_nodes_ask_the_controller_for_the_configuration(image: Place, old: Path) -> None:
    need_sysusers()
    assert image.deploy(old, "--role", "compute", "--conf-server", "ctl:6817").code == 0
    unit = Path(f"{image.root}/etc/systemd/system/slurmd.service").read_text()
    assert "--systemd --conf-server ctl:6817 $SLURMD_OPTIONS" in unit
    assert not Path(f"{image.root}/etc/slurm").exists()


def test_second_deployment_keeps_what_the_first_was_told(
    image: Place, old: Path, new: Path
) -> None:
    need_sysusers()
    words = ("--role", "compute", "--conf-server", "ctl:6817", "--slurm-uid", "500")
    assert image.deploy(old, *words).code == 0
    etc = Path(f"{image.root}/etc")
    before = [path.read_text() for path in sorted(etc.rglob("*slurm*")) if path.is_file()]
    for again in ((new, "--role", "compute"), (old,), ("--rollback",)):
        done = image.deploy(*again)
        assert done.code == 0, done.errors
        after = [path.read_text() for path in sorted(etc.rglob("*slurm*")) if path.is_file()]
        assert after == before
    refused = image.deploy(old, "--role", "compute", "--slurm-uid", "501")
    assert refused.code == 2
    assert "It is there, and has 500." in refused.errors


def test_cluster_without_accounting_stays_one(image: Place, old: Path) -> None:
    need_sysusers()
    image.deploy(old, "--role", "controller,rest", "--config", "hpc")
    assert image.deploy(old, "--role", "controller,rest").code == 0
    unit = Path(f"{image.root}/etc/systemd/system/slurmrestd.service").read_text()
    assert "-s slurmctld" in unit


def test_units_follow_a_switch_to_a_series_with_other_options(image: Place, tmp_path: Path) -> None:
    need_sysusers()
    first = image.deploy(make_package(tmp_path, "23.02.8"), "--role", "compute")
    assert first.code == 0, first.errors
    unit = Path(f"{image.root}/etc/systemd/system/slurmd.service")
    assert 'slurmd" -D' in unit.read_text()
    assert image.deploy(make_package(tmp_path, "23.11.11")).code == 0
    assert 'slurmd" --systemd' in unit.read_text()
    assert image.deploy("--rollback").code == 0
    assert 'slurmd" -D' in unit.read_text()


def test_directory_that_others_use_is_not_given_to_slurm(image: Place, old: Path) -> None:
    need_sysusers()
    conf = Path(f"{image.root}/etc/slurm/slurm.conf")
    conf.parent.mkdir()
    conf.write_text("StateSaveLocation=/var/spool\n")
    (Path(f"{image.root}/var/spool")).mkdir(parents=True)
    assert image.deploy(old, "--role", "controller").code == 0
    assert "/var/spool" not in Path(f"{image.root}/etc/tmpfiles.d/slurm-factory.conf").read_text()


def test_link_of_an_image_does_not_lead_to_this_machine(
    image: Place, old: Path, tmp_path: Path
) -> None:
    need_sysusers()
    outside = tmp_path / "outside"
    outside.mkdir()
    Path(f"{image.root}/etc/systemd").symlink_to(outside)
    done = image.deploy(old, "--role", "compute")
    assert done.code == 2
    assert "leads out of" in done.errors
    assert not list(outside.iterdir())


def test_secrets_are_never_readable_by_others(
    image: Place, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chmod that fails shows the mode that each file has before."""
    need_sysusers()
    programs = tmp_path / "programs"
    programs.mkdir()
    seen = tmp_path / "seen"
    chmod = programs / "chmod"
    chmod.write_text(f'#!/bin/sh\nstat -c "%a %n" "$2" >> "{seen}"\nexec /bin/chmod "$@"\n')
    chmod.chmod(0o755)
    script = tmp_path / "deploy.sh"
    text = resources.deploy_script().read_text()
    script.write_text(text.replace("PATH=/usr/local/sbin:", f"PATH={programs}:/usr/local/sbin:"))
    monkeypatch.setattr(resources, "deploy_script", lambda: script)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    done = image.deploy(old, "--role", "controller,dbd", "--config", "hpc")
    assert done.code == 0, done.errors
    modes = {line.split()[1].rpartition("/")[2].split(".new")[0]: line.split()[0]
             for line in seen.read_text().splitlines()}  # fmt: skip
    assert modes["slurmdbd.conf"] == "600"
    assert modes["database.sql"] == "600"


def test_units_of_a_distribution_are_left_alone(image: Place, old: Path) -> None:
    foreign = Path(f"{image.root}/usr/lib/systemd/system")
    foreign.mkdir(parents=True)
    (foreign / "slurmd.service").write_text("[Unit]\nDescription=of slurm-wlm\n")
    done = image.deploy(old, "--role", "compute")
    assert done.code == 3
    assert "This machine has a slurmd of its own." in done.errors
    assert not (image.top / "versions").exists()


def test_munge_of_a_distribution_is_kept(image: Place, old: Path) -> None:
    need_sysusers()
    foreign = Path(f"{image.root}/usr/lib/systemd/system/munge.service")
    foreign.parent.mkdir(parents=True)
    foreign.write_text("[Unit]\n")
    assert image.deploy(old, "--role", "compute").code == 0
    assert not Path(f"{image.root}/etc/systemd/system/munge.service").exists()
    assert "munge" not in Path(f"{image.root}/etc/tmpfiles.d/slurm-factory.conf").read_text()


def test_role_that_a_package_cannot_have_is_refused(image: Place, tmp_path: Path) -> None:
    package = make_package(tmp_path, changes={"roles": "controller compute"})
    done = image.deploy(package, "--role", "login")
    assert done.code == 2
    assert "The package cannot have the role login, which" in done.errors


def test_machine_keeps_its_roles_or_the_deployment_is_refused(
    image: Place, old: Path, tmp_path: Path
) -> None:
    need_sysusers()
    assert image.deploy(old, "--role", "controller,rest").code == 0
    minimal = make_package(tmp_path, "24.11.6", changes={"roles": "controller compute"})
    done = image.deploy(minimal)
    assert done.code == 2
    assert "cannot have the role rest" in done.errors
    assert image.current == "slurm-24.11.5"


@pytest.mark.parametrize(
    ("line", "fact"), [("PrologFlags=Contain,X11", "x11"), ("authalttypes=auth/jwt", "jwt")]
)
def test_package_without_what_the_configuration_names_is_refused(
    image: Place, tmp_path: Path, line: str, fact: str
) -> None:
    conf = Path(f"{image.root}/etc/slurm/slurm.conf")
    conf.parent.mkdir()
    conf.write_text(f"{line}\n")
    done = image.deploy(make_package(tmp_path, changes={fact: "no"}))
    assert done.code == 2
    assert f"the package was built without {fact}" in done.errors
    assert image.deploy(make_package(tmp_path, changes={fact: "yes"})).code == 0


def test_commands_for_an_image_are_not_for_this_machine(image: Place, old: Path) -> None:
    need_sysusers()
    done = image.deploy(old, "--role", "compute", "--conf-server", "ctl", "--json")
    assert done.document["deploy"]["next"] == [
        f"systemctl --root={image.root} enable munge slurmd "
    ]
    said = image.deploy(old, "--role", "compute", "--slurm-uid", "64030").said
    assert "systemctl restart" not in said


def test_version_that_no_longer_starts_is_unpacked_again(place: Place, old: Path) -> None:
    place.deploy(old)
    (place.top / "versions/slurm-24.11.5/software/sbin/slurmd").unlink()
    assert "unpacked" in place.deploy(old).said
    assert place.current == "slurm-24.11.5"
    assert place.names == {"slurm-24.11.5"}


def test_directory_without_versions_says_so(place: Place) -> None:
    done = place.deploy("--list")
    assert done.code == 0
    assert done.errors == f"There is no version in {place.prefix}.\n"
    assert place.deploy("--list", "--json").document == {"version": 1, "versions": []}
    assert "There is no version in" in place.deploy("--start").errors


def test_module_tarball_leads_to_the_other_one(place: Place, old: Path) -> None:
    done = place.deploy(str(old).replace("-software", "-module"))
    assert done.code == 2
    assert str(old) in done.errors


def test_releases_can_be_named_in_place_of_series(place: Place, old: Path) -> None:
    place.deploy(old)
    done = place.deploy("--plan-upgrade", "24.11.5", "26.05.3", "--json")
    assert done.document["upgrade"]["hops"] == ["26.05"]
    (place.top / "current").unlink()
    assert place.deploy("--switch", "slurm-24.11.5").code == 0


def test_machine_is_a_compute_node_or_a_login_node(image: Place, old: Path) -> None:
    need_sysusers()
    assert image.deploy(old, "--role", "login").code == 0
    done = image.deploy(old, "--role", "compute")
    assert done.code == 2
    assert "A machine is a compute node or a login node." in done.errors


def test_id_that_somebody_has_is_not_given_to_slurm(image: Place, old: Path) -> None:
    with Path(f"{image.root}/etc/passwd").open("a") as file:
        file.write("eve:x:64030:64030::/home/eve:/bin/sh\n")
    done = image.deploy(old, "--role", "compute")
    assert done.code == 2
    assert "eve has it (passwd)." in done.errors
    assert "--slurm-uid" in done.errors


def test_document_of_a_deployment_names_what_it_did(place: Place, old: Path, new: Path) -> None:
    place.deploy(old)
    document = place.deploy(new, "--json").document
    assert document == {
        "version": 1,
        "deploy": {
            "name": "slurm-25.05.8",
            "release": "25.05.8",
            "directory": f"{place.prefix}/versions/slurm-25.05.8",
            "previous": "slurm-24.11.5",
            "unpacked": True,
            "switched": True,
            "files": [],
            "next": [],
            "removed": [],
            "dry_run": False,
        },
    }
    assert json.loads(place.deploy(new, "--json", "--dry-run").said)["deploy"]["dry_run"] is True
