"""The results of the commands for many builds: tables, or one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slurm_factory.answers import summarize
from slurm_factory.output import github
from slurm_factory.output.records import duration
from slurm_factory.output.stdout import print_document, print_line, print_table
from slurm_factory.output.text import as_called, shown

if TYPE_CHECKING:
    from slurm_factory.farm.matrix import CellResult, MatrixResult, PlannedCell
    from slurm_factory.output.reporter import Reporter


def print_cells(planned: Sequence[PlannedCell], *, as_json: bool) -> None:
    """Print the cells of a matrix, and which of them are up to date: `matrix --dry-run`."""
    if as_json:
        print_document(
            {
                "cells": [
                    {
                        "stem": each.name,
                        "release": each.cell.plan.release.release,
                        "type": each.cell.plan.build_type,
                        "base": each.cell.plan.base.name,
                        "deps": each.cell.plan.deps,
                        "arch": each.cell.plan.architecture,
                        "up_to_date": each.finished is not None,
                        "seconds": round(each.seconds, 1),
                    }
                    for each in planned
                ]
            }
        )
        return
    rows = [
        (
            each.name,
            each.cell.plan.release.release + each.cell.plan.suffix,
            each.cell.plan.build_type,
            each.cell.plan.base.name,
            each.cell.plan.deps,
            each.cell.plan.architecture,
            "up to date" if each.finished else f"to build, {duration(each.seconds)}",
        )
        for each in planned
    ]
    print_table(("Package", "Slurm", "Type", "Base", "Libraries", "For", "State"), rows)
    todo = sum(each.finished is None for each in planned)
    print_line(f"\n{len(planned)} cells, {todo} to build")


def print_matrix(result: MatrixResult, reporter: Reporter, *, as_json: bool) -> dict[str, Any]:
    """Print how the cells of a matrix ended; returns the document.

    Args:
        result: How they ended.
        reporter: Gets a warning if the summary of a workflow cannot be written.
        as_json: Print the document instead.
    """
    document = _matrix_facts(result)
    summarize(_matrix_markdown(result), reporter)
    if as_json:
        print_document(document)
        return document
    print_table(("Package", "State", "Time", "Why"), _matrix_rows(result), right=("Time",))
    print_line(f"\n{_matrix_line(result)}")
    if result.directory:
        print_line(f"logs: {result.directory}")
    return document


def _matrix_rows(result: MatrixResult) -> list[tuple[str, str, str, str]]:
    return [
        (
            each.planned.name,
            f"{each.result.state}{', verified' if each.verified else ''}",
            duration(each.result.seconds) if each.result.attempts else "",
            _why(each),
        )
        for each in result.cells
    ]


def _why(each: CellResult) -> str:
    error = each.result.error or {}
    return " ".join(str(error.get(part) or "") for part in ("brief", "details")).strip()


def _matrix_line(result: MatrixResult) -> str:
    """Such as `28 cells: 3 built, 25 up-to-date, in 12 min 03 s, 2 at a time (15 an hour)`."""
    states = dict.fromkeys(each.result.state for each in result.cells)
    counts = ", ".join(f"{result.count(state)} {state}" for state in states)
    ran = f", {result.at_once} at a time" if result.directory else ""
    return f"{len(result.cells)} cells: {counts}, in {duration(result.seconds)}{ran}"


def _matrix_facts(result: MatrixResult) -> dict[str, Any]:
    return {
        "exit_code": result.exit_code,
        "seconds": round(result.seconds, 1),
        "parallel": result.at_once,
        "jobs": result.jobs,
        "directory": result.directory,
        "cells": [
            {
                "stem": each.planned.name,
                "state": each.result.state,
                "exit_code": each.result.exit_code,
                "seconds": round(each.result.seconds, 1),
                "attempts": each.result.attempts,
                "verified": each.verified,
                "manifest_path": each.manifest_path or None,
                "log": each.result.log,
                "command": each.command,
                "error": each.result.error,
            }
            for each in result.cells
        ],
    }


def _matrix_markdown(result: MatrixResult) -> list[str]:
    plain = github.plain
    rows = [
        f"| {plain(name)} | {plain(state)} | {took} | {plain(as_called(shown(why)))} |"
        for name, state, took, why in _matrix_rows(result)
    ]
    head = [f"### {plain(_matrix_line(result))}", "", "| Package | State | Time | Why |"]
    return [*head, "| --- | --- | ---: | --- |", *rows]
