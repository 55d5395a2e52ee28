"""The command line with a fault built in, as a plan may have one: `faulty.py FAULT ARGUMENTS`."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from slurm_factory import features, plan, resources

COMPILES_NOT = "-Dslurm_xfree=%"
"""A macro that configure does not meet and nearly every file of Slurm does."""


def compiler_flags() -> None:
    """A compiler that turns the source down."""
    plan.COMPILER_FLAGS = (*plan.COMPILER_FLAGS, COMPILES_NOT)  # type: ignore[misc]


def patch() -> None:
    """A patch that does not fit the release."""
    shipped, changed = Path(str(resources.patches_dir())), Path(tempfile.mkdtemp())
    for path in shipped.iterdir():
        lines = path.read_text().splitlines(keepends=True)
        other = [f" {line[1:].rstrip()} changed\n" if line[:1] == " " else line for line in lines]
        (changed / path.name).write_text("".join(other if path.suffix == ".patch" else lines))
    plan.patches_dir = lambda: changed
    resources.patches_dir = lambda: changed


def promise() -> None:
    """A promise that configure does not keep."""
    readline = next(row for row in features.table() if row.name == "readline")
    broken = readline.model_copy(update={"on": ("--without-readline",)})
    features.table = lambda: tuple(broken if row is readline else row for row in rows)
    rows = (readline,)


FAULTS: dict[str, Callable[[], None]] = {
    "compiler-flags": compiler_flags,
    "patch": patch,
    "promise": promise,
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()

    from slurm_factory.main import run

    run()
