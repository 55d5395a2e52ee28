"""What a trial and an upgrade do with what the scripts say; the scripts run for real elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest
from verify_samples import make_tree, pack_package

from slurm_factory.instances.machine import Machine, ScriptError
from slurm_factory.package.tree import look_at
from slurm_factory.package.verification import Check, Trial, Upgrade
from slurm_factory.plan.bases import find_distro
from slurm_factory.verify.cluster import Mapped
from slurm_factory.verify.static import Opened
from slurm_factory.verify.trial import try_package
from slurm_factory.verify.upgrade import try_upgrade

DEBIAN = find_distro("debian@13")
ANSWERS = {"about.sh": "2.41 6.1.0\n", "facts.sh": "head 2\n", "upgrade-job.sh": "7\n"}
Said = dict[str, str | ScriptError]


@dataclass(frozen=True)
class Scripted(Machine):
    """A machine whose scripts say what a test wants."""

    said: Said = field(default_factory=dict)
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, script: str, *arguments: object, **_: str) -> str:
        self.ran.append((script, *map(str, arguments)))
        said = self.said.get(script, ANSWERS.get(script, "fine\n"))
        if isinstance(said, ScriptError):
            raise said
        return said

    def push(self, path: Path, destination: PurePosixPath) -> None:
        self.ran.append(("push", str(destination)))


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    tree = make_tree(tmp_path / "made")
    for plugin in ("accounting_storage_mysql", "job_submit_lua"):
        (tree / f"lib/slurm/{plugin}.so").touch()
    return Opened(pack_package(tree, tmp_path / "packed"), look_at(tree), None)


def tried(opened: Opened, said: Said) -> tuple[Trial, Scripted, dict[str, str]]:
    machine, logs = Scripted(said=said), dict[str, str]()
    return try_package(opened, machine, DEBIAN, lambda *_: None, logs.__setitem__), machine, logs


def of(checks: tuple[Check, ...], result: str) -> set[str]:
    return {check.name for check in checks if check.result == result}


def broken(details: str, status: int = 1) -> ScriptError:
    return ScriptError("script", "", details, status)


def test_everything_is_done_at_both_places(opened: Opened) -> None:
    trial, machine, logs = tried(opened, {})
    assert trial.passed
    assert (trial.glibc, trial.kernel) == ("2.41", "6.1.0")
    first, second = (of(place.checks, "passed") for place in trial.places)
    assert first == second >= {"start", "srun", "lua", "libraries", "stop"}
    assert [row[0] for row in machine.ran].count("move.sh") == 1
    assert logs == {}


def test_one_failure_ends_no_other_check_and_saves_the_logs(opened: Opened) -> None:
    trial, _, logs = tried(opened, {"check-srun.sh": broken("first\nno such node")})
    assert not trial.passed
    assert [of(place.checks, "failed") for place in trial.places] == [{"srun"}, {"srun"}]
    (found,) = (c for c in trial.places[0].checks if c.name == "srun")
    assert found.brief == "no such node"
    assert [*logs] == ["debian-13-daemons-1", "debian-13-daemons-2"]


def test_cluster_that_does_not_start_is_not_asked_for_anything(opened: Opened) -> None:
    logs = "==> slurmctld.log <==\nfatal: no plugin\n==> /var/log/slurm/start.log <==\nhas ended\n"
    trial, machine, _ = tried(opened, {"start.sh": broken(""), "logs.sh": logs})
    (place,) = trial.places
    assert [check.name for check in place.checks] == ["start", "stop"]
    assert place.checks[0].brief == "has ended"
    assert "check-srun.sh" not in {row[0] for row in machine.ran}


def test_script_can_skip_itself_and_a_program_of_the_package_cannot(opened: Opened) -> None:
    said: Said = {
        "check-srun.sh": broken("skipped: no reason at all", 1),
        "check-salloc.sh": broken("exit 77 of srun", 77),
        "check-x11.sh": broken("skipped: built without X11", 77),
        "check-sbatch.sh": "skipped: it says\n",
    }
    trial, _, _ = tried(opened, said)
    checks = trial.places[0].checks
    assert {"srun", "salloc"} <= of(checks, "failed")
    assert "x11" in of(checks, "skipped")
    assert "sbatch" in of(checks, "passed")


def test_machine_that_answers_nonsense_ends_no_verification(opened: Opened) -> None:
    trial, _, _ = tried(opened, {"about.sh": "", "facts.sh": "$(reboot) x\n"})
    assert [check.result for check in trial.places[0].checks] == ["failed", "passed"]


def test_foreign_library_is_named(opened: Opened) -> None:
    mapped = "mapped\tsrun\t/usr/lib/libcurl.so.4\n"
    trial, _, _ = tried(opened, {"mapped.sh": mapped})
    (found,) = (c for c in trial.places[0].checks if c.name == "libraries")
    assert (found.result, found.detail) == ("failed", "srun maps /usr/lib/libcurl.so.4")


def test_nonsense_among_mappings_is_ignored() -> None:
    assert Mapped.parse(["", "mapped", "a\tb\tc", "mapped\tx\t/y"]).by == {
        ("x", PurePosixPath("/y"))
    }


def upgraded(opened: Opened, said: Said) -> tuple[Upgrade, Scripted, dict[str, str]]:
    machine, logs = Scripted(said=said), dict[str, str]()
    on_check: Callable[[str, Check], None] = lambda *_: None  # noqa: E731
    done = try_upgrade([opened, opened, opened], machine, DEBIAN, on_check, logs.__setitem__)
    return done, machine, logs


def test_daemons_are_replaced_in_the_order_of_upstream(opened: Opened) -> None:
    done, machine, _ = upgraded(opened, {})
    steps = [row[2] for row in machine.ran if row[0] == "upgrade-daemon.sh"]
    assert steps == ["slurmdbd", "slurmctld", "slurmd"] * 2
    assert of(done.checks, "failed") == set()
    trees = [row[1] for row in machine.ran if row[0] == "upgrade-daemon.sh"]
    assert len(set(trees)) == 2
    commands = [row[4] for row in machine.ran if row[0] == "upgrade-daemon.sh"]
    # The controller is still the old one when slurmdbd is replaced.
    assert commands[0] == "/opt/slurm versions/0/software"
    assert commands[1] == trees[1]


def test_upgrade_ends_at_the_first_failure_with_logs(opened: Opened) -> None:
    done, machine, logs = upgraded(opened, {"upgrade-daemon.sh": broken("job 7 is FAILED")})
    assert [check.result for check in done.checks] == ["passed", "failed"]
    assert done.checks[-1].brief == "job 7 is FAILED"
    assert "upgrade-end.sh" not in {row[0] for row in machine.ran}
    assert [*logs] == ["debian-13-upgrade"]
