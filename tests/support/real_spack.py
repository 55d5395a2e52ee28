"""The real Spack, for tests that need it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from slurm_factory import resources

HERE = os.environ.get("SLURM_FACTORY_TESTS_SPACK", "")
PYTHON = os.environ.get("SLURM_FACTORY_TESTS_SPACK_PYTHON", sys.executable)
CACHE = os.environ.get("SLURM_FACTORY_TESTS_SPACK_CACHE", "")
WHY_NOT = "SLURM_FACTORY_TESTS_SPACK names no directory with spack and spack-packages"


@dataclass(frozen=True)
class Spack:
    """A Spack with its recipes, on this machine.

    Attributes:
        root: Holds spack/ and spack-packages/.
        python: Interpreter that has clingo.
        cache: Index of the recipes, which takes minutes to make; kept where the variable says so.
    """

    root: Path
    python: str
    cache: Path

    @property
    def program(self) -> Path:
        return self.root / "spack" / "bin" / "spack"

    @property
    def builtin(self) -> Path:
        return self.root / "spack-packages" / "repos" / "spack_repo" / "builtin"

    def environment(self) -> dict[str, str]:
        """Variables that keep the user's own Spack out."""
        return {
            **os.environ,
            "SPACK_PYTHON": self.python,
            "SPACK_DISABLE_LOCAL_CONFIG": "1",
            "SPACK_USER_CACHE_PATH": str(self.cache / "user"),
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, project: Path, *arguments: str) -> list[str]:
        """What a command prints; it runs as the recipe runs it."""
        environment = self.environment() | {
            "SPACK": str(self.program),
            "PROJECT": str(project),
            "ARGUMENTS": "\n".join(arguments),
        }
        done = subprocess.run(
            ["bash", "-c", resources.script("spack-run.sh")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout.splitlines()
