"""The last page of a build: steps, files and what the package needs."""

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from slurm_factory.output.records import (
    FileRecord,
    PackageRecord,
    Results,
    StepRecord,
    duration,
)
from slurm_factory.output.stream import safe

WIDTH_OF_FILES = 1_000
PACKAGES_SHOWN = 10
"""The slowest ones; all are in the manifest."""


def print_results(steps: Sequence[StepRecord], results: Results, stream: TextIO) -> None:
    """Print the final tables.

    On a terminal they fit its width; elsewhere no line is folded, so that paths and checksums
    can be searched for. A reader that has gone away is no error.

    Args:
        steps: All steps of the build.
        results: What it left.
        stream: Normally stdout.
    """
    width = None if stream.isatty() else WIDTH_OF_FILES
    console = Console(file=safe(stream), width=width)
    console.print(result_table(steps, results, width=console.width))


def result_table(steps: Sequence[StepRecord], results: Results, *, width: int) -> RenderableType:
    """The final tables for a screen of `width` columns."""
    parts: list[RenderableType] = []
    if steps:
        parts.append(_steps_table(steps))
    if results.packages:
        parts.append(_packages_table(results.packages))
        parts.append(Text(f" {_caches(results)}", overflow="fold"))
    if results.files:
        parts += [Text(f" {results.files[0].path.parent}", overflow="fold")]
        parts += [_files_table(results.files, width)]
    if results.glibc:
        parts.append(Text(f" {_needs(results)}", overflow="fold"))
    return Group(*parts)


def markdown(steps: Sequence[StepRecord], results: Results) -> str:
    """The same in Markdown, for the summary of a GitHub job."""
    lines = ["| Step | Time | |", "| --- | ---: | --- |"]
    lines += [f"| {_cell(step)} | {duration(step.seconds)} | {step.outcome} |" for step in steps]
    if results.packages:
        lines += ["", "| Package | Time | From |", "| --- | ---: | --- |"]
        lines += [
            f"| {_escaped(package.name)} | {duration(package.seconds)} | {_origin(package)} |"
            for package in _slowest(results.packages)
        ]
        lines += ["", _escaped(_caches(results))]
    if results.files:
        lines += ["", "| File | Size | SHA-256 |", "| --- | ---: | --- |"]
        lines += [
            f"| {_escaped(file.path.name)} | {decimal(file.size)} | `{file.sha256}` |"
            for file in results.files
        ]
    if results.glibc:
        lines += ["", _escaped(_needs(results))]
    return "\n".join(lines) + "\n"


def _steps_table(steps: Sequence[StepRecord]) -> Table:
    table = Table("Step", box=box.SIMPLE_HEAD)
    table.add_column("Time", justify="right", no_wrap=True)
    for step in steps:
        ending = "" if step.outcome == "done" else f" ({step.outcome})"
        name = Text(f"{'  ' * step.depth}{step.name}{ending}", overflow="fold")
        table.add_row(name, duration(step.seconds))
    return table


def _packages_table(packages: Sequence[PackageRecord]) -> Table:
    table = Table("Package", box=box.SIMPLE_HEAD)
    table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("From")
    for package in _slowest(packages):
        name = Text(package.name, overflow="fold")
        table.add_row(name, duration(package.seconds), _origin(package))
    return table


def _slowest(packages: Sequence[PackageRecord]) -> Sequence[PackageRecord]:
    return sorted(packages, key=lambda package: -package.seconds)[:PACKAGES_SHOWN]


def _origin(package: PackageRecord) -> str:
    return "build cache" if package.cached else "source"


def _caches(results: Results) -> str:
    """Such as `23 of 24 packages from the build cache (96%), 9 of 9 compilations from …`."""
    cached = sum(package.cached for package in results.packages)
    parts = [_share(cached, len(results.packages), "packages from the build cache")]
    hits, compilations = results.compilations
    if compilations:
        parts.append(_share(hits, compilations, "compilations from ccache"))
    return ", ".join(parts)


def _share(part: int, whole: int, what: str) -> str:
    return f"{part} of {whole} {what} ({part / whole:.0%})"


def _files_table(files: Sequence[FileRecord], width: int) -> Table:
    rows = [(file.path.name, decimal(file.size), file.sha256) for file in files]
    margins = 8
    if width >= margins + sum(max(map(len, column)) for column in zip(*rows, strict=True)):
        table = Table("File", "Size", "SHA-256", box=box.SIMPLE_HEAD)
        for name, size, digest in rows:
            table.add_row(Text(name), Text(size, justify="right"), Text(digest))
        return table
    table = Table("File and SHA-256", "Size", box=box.SIMPLE_HEAD)
    for name, size, digest in rows:
        table.add_row(Text(f"{name}\n{digest}", overflow="fold"), Text(size, justify="right"))
    return table


def _needs(results: Results) -> str:
    having = ", ".join(results.distributions)
    return f"Needs glibc {results.glibc} or newer" + (f": {having}" if having else "")


def _cell(step: StepRecord) -> str:
    return "&nbsp;" * 2 * step.depth + _escaped(step.name)


def _escaped(text: str) -> str:
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;")):
        text = text.replace(plain, entity)
    return text
