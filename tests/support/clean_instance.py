"""Clean instances, in which tests run scripts of their own beside those of the program."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slurm_factory.config import Settings
from slurm_factory.instances.clean_instance import clean_instance
from slurm_factory.instances.machine import Machine
from slurm_factory.output.reporter import make_reporter
from slurm_factory.plan.bases import Distro, find_distro
from slurm_factory.workspace import new_build_id, open_workspace

NEWEST = find_distro("debian@13")
SCRIPTS = Path(__file__).parent / "cluster"
WAIT_SECONDS = 600


@dataclass(frozen=True)
class CleanInstance(Machine):
    """A machine that finds the scripts of cluster/, too."""

    def run(self, script: str, *arguments: object, **variables: str) -> str:
        """Run a script of the tests or of the program; returns what it printed."""
        own = SCRIPTS / script
        if own.is_file():
            return self.run_text(script, own.read_text(), *arguments, **variables)
        return super().run(script, *arguments, **variables)


@contextmanager
def clean_copy(settings: Settings, distro: Distro = NEWEST) -> Iterator[CleanInstance]:
    """A running copy of the prepared instance of a distribution, deleted afterwards."""
    with (
        make_reporter(verbose=True) as reporter,
        open_workspace(new_build_id("tests"), settings, reporter) as workspace,
        clean_instance(distro, settings, reporter, workspace, offline=False) as machine,
    ):
        yield CleanInstance(machine.name, machine.project, wait=WAIT_SECONDS)
