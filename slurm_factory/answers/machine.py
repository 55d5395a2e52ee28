"""What setup, doctor and clean answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from slurm_factory.output import as_called
from slurm_factory.output.stdout import file_size, print_document, print_line, print_table

if TYPE_CHECKING:
    from slurm_factory.clean import CleanPlan, Removal
    from slurm_factory.host import Check, SetupResult


def print_setup(result: SetupResult, *, check: bool, as_json: bool) -> None:
    """Print the steps of a setup, and how each stands.

    Args:
        result: What setup found or did.
        check: Whether it was only to find out.
        as_json: Print a document instead.
    """
    if as_json:
        print_document(asdict(result))
        return
    for step in result.steps:
        state = ("missing" if check else "done") if step.needed else "ok"
        print_line(f"{state:8} {step.name}: {step.why}")


def print_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Print what doctor found, with the command that mends it."""
    if as_json:
        print_document({"checks": [asdict(check) for check in checks]})
        return
    for check in checks:
        print_line(f"{check.status:8} {check.name}: {check.message}")
        if check.fix_command:
            print_line(f"{'':8} fix: {as_called(check.fix_command)}")


def print_removals(removals: Sequence[Removal]) -> None:
    """Print what clean is about to remove."""
    sizes = ["" if removal.size is None else file_size(removal.size) for removal in removals]
    rows = [(r.kind, r.name, size) for r, size in zip(removals, sizes, strict=True)]
    print_table(("What", "Name", "Size"), rows, empty="There is nothing to remove.")


def print_cleaned(plan: CleanPlan, *, dry_run: bool) -> None:
    """Print the document of what clean has removed, or would."""
    print_document({"dry_run": dry_run, **asdict(plan)})
