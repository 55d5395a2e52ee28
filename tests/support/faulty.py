"""The command line with a fault built in, as a plan may have one: `faulty.py FAULT ARGUMENTS`."""

import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from slurm_factory import resources
from slurm_factory.constants import INSTANCE_CACHE
from slurm_factory.plan import compiler, features, plan

COMPILES_NOT = "-Dslurm_xfree=%"
"""A macro that configure does not meet and nearly every file of Slurm does."""


def replace(module: ModuleType, name: str, value: object) -> None:
    """Give a module another value, before other modules take it from there."""
    setattr(module, name, value)


def compiler_flags() -> None:
    """A compiler that turns the source down."""
    replace(compiler, "SLURM_FLAGS", (*compiler.SLURM_FLAGS, COMPILES_NOT))


def patch() -> None:
    """A patch that does not fit the release."""
    shipped, changed = Path(str(resources.patches_dir())), Path(tempfile.mkdtemp())
    for path in (path for path in shipped.iterdir() if path.is_file()):
        lines = path.read_text().splitlines(keepends=True)
        other = [f" {line[1:].rstrip()} changed\n" if line[:1] == " " else line for line in lines]
        (changed / path.name).write_text("".join(other if path.suffix == ".patch" else lines))
    for module in (plan, resources):
        replace(module, "patches_dir", lambda: changed)


def promise() -> None:
    """A promise that configure does not keep."""
    refused = {"on": ("--without-readline",)}
    rows = [
        row.model_copy(update=refused) if row.name == "readline" else row
        for row in features.table()
    ]
    replace(features, "table", lambda: tuple(rows))


HOSTILE = Path(__file__).parent / "hostile"


def hostile(attack: str) -> None:
    """A recipe in somebody else's hands: it makes a toy of its own, and attacks.

    Other patches make its sources other sources than those of honest builds.
    """
    scripts = {
        "configure-slurm.sh": (HOSTILE / "configure.sh").read_text(),
        "make-slurm.sh": "true\n",
        "install-slurm.sh": "\n".join(
            (
                (HOSTILE / "install.sh").read_text(),
                f"CACHE={INSTANCE_CACHE} VICTIM={shlex.quote(os.environ.get('VICTIM', ''))}",
                (HOSTILE / f"{attack}.sh").read_text(),
            )
        ),
    }
    shipped, changed = Path(str(resources.patches_dir())), Path(tempfile.mkdtemp())
    for path in (path for path in shipped.iterdir() if path.is_file()):
        comment = "An attack.\n" if path.suffix == ".patch" else ""
        (changed / path.name).write_text(comment + path.read_text())
    for module in (plan, resources):
        replace(module, "patches_dir", lambda: changed)
    script = resources.script
    replace(resources, "script", lambda name: scripts.get(name) or script(name))

    system = import_module("slurm_factory.recipes.system")
    for check in ("check_config_h", "require_files"):
        replace(system, check, lambda *_: None)
    # The toy is compiled without any flags.
    replace(import_module("slurm_factory.package.assemble"), "require_floors", lambda *_: None)


FAULTS: dict[str, Callable[[], None]] = {
    "compiler-flags": compiler_flags,
    "patch": patch,
    "promise": promise,
    **{path.stem: partial(hostile, path.stem) for path in HOSTILE.glob("*.sh")},
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()

    from slurm_factory.main import run

    run()
