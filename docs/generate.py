"""Writes docs/options.md, and a table in docs/limits.md, from the code and its data.

`--check` only tells whether they are up to date.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from typer.core import TyperGroup
from typer.main import get_command

from slurm_factory import answers, exceptions
from slurm_factory.config import ENVIRONMENT_PREFIX, Settings
from slurm_factory.constants import BuildType
from slurm_factory.main import app
from slurm_factory.output.stdout import READER_GONE
from slurm_factory.plan import bases, features, releases

PAGE = Path(__file__).with_name("options.md")
LIMITS = Path(__file__).with_name("limits.md")
BEGIN = "<!-- made by `make docs` from resources/known-absences.toml -->\n"
END = "<!-- end -->\n"
PROGRAM = "slurm-factory"
INTRODUCTION = """\
# Options, settings, features

Written from the code by `make docs`; a test fails when it is out of date.
"""
SETTINGS = """\
The command line is stronger than the environment, and that is stronger than the file
`~/.config/slurm-factory/config.toml` (`$XDG_CONFIG_HOME` counts). The file holds lines such as
`memory_limit = "8GiB"`; an unknown key in it is an error, an unknown variable `SLURM_FACTORY_…` is
warned of. URLs in one variable are separated by blanks or commas, as in
`SLURM_FACTORY_SOURCE_MIRRORS="http://mirror.example/slurm file:///srv/slurm"`; a JSON list is
understood as well. Proxies (`http_proxy`, `https_proxy`, `no_proxy`) are taken from the environment
and reach the instances.
"""
FEATURES = """\
A build type has the features marked with x. `--additional-variants "+hdf5 ~restd"` adds and leaves
out by the names in the column variant, which are those of Spack's Slurm recipe where it has one; a
feature without such a name comes with its build types and is no choice.
Configure is told each feature, and the build fails when it turns one down or when a file that
belongs to it is missing.
"""
WORKFLOWS = """\
In a workflow of GitHub Actions each step of a build is a group of the log, an error is an
annotation, and the summary of the job gets a section for each build: its files and steps, or why it
failed. A `build`, also one that is up to date, sets these outputs of its step:
"""
UNREAD = "nobody read the answer to its end (`| head -1`); a build is finished all the same"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines
    )


def command_sections() -> Iterator[str]:
    """The program's own options, then each command's."""
    group = cast("TyperGroup", get_command(app))
    above = group.make_context(PROGRAM, [], resilient_parsing=True)
    yield command_section(PROGRAM, "Options that stand before the command.", group, above)
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=above, resilient_parsing=True)
        yield command_section(f"{PROGRAM} {name}", command.help or "", command, context)


def command_section(name: str, text: str, command: Any, context: Any) -> str:
    """One command: what it does, and its options with the text of `--help`."""
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    rows = [(f"`{left}`", right.replace("  [", " [")) for left, right in filter(None, records)]
    return f"### `{name}`\n\n{text}\n\n{table(('Option', 'Meaning'), rows)}"


def variable(name: str, field: FieldInfo) -> str:
    """Names of the environment variables of a setting."""
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else ()
    return ", ".join(f"`{choice}`" for choice in choices or [ENVIRONMENT_PREFIX + name.upper()])


def settings_section() -> str:
    """All settings."""
    rows = (
        (
            f"`{name}`",
            variable(name, field),
            f"`{field.default}`" if field.default not in {None, ()} else "",
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    )
    head = ("Key", "Environment variable", "Default", "Meaning")
    return f"## Settings\n\n{SETTINGS}\n{table(head, rows)}"


def features_section() -> str:
    """The feature table, and the cells that are empty."""
    rows = (
        (
            feature.name,
            feature.summary,
            *("x" if build_type in feature.types else "" for build_type in BuildType),
            f"`{feature.variant}`" if feature.variant else "",
        )
        for feature in features.table()
    )
    head = ("Feature", "What it is", *BuildType, "Variant")
    empty = [
        (feature.name, where(cell), cell.reason)
        for feature in features.table()
        for cell in feature.empty
    ]
    cannot = table(("Feature", "Cannot be had", "Reason"), empty)
    return f"## Features\n\n{FEATURES}\n{table(head, rows)}\n{cannot}"


def where(cell: features.Empty) -> str:
    """The plans that an empty cell is about."""
    parts = [
        f"`--deps {cell.recipe}`" if cell.recipe else "",
        f"on {', '.join(cell.bases)}" if cell.bases else "",
        f"before {cell.before}" if cell.before else "",
    ]
    return " ".join(part for part in parts if part) or "anywhere"


def bases_section() -> str:
    """The bases."""
    rows = [
        (f"`{base.name}`", base.codename, base.glibc, base.package_manager)
        for base in bases.bases()
    ]
    head = ("Base", "Codename", "glibc", "Package manager")
    text = "`--base same` means the one of these that this machine runs."
    return f"## Bases\n\n{text}\n\n{table(head, rows)}"


def releases_section() -> str:
    """The series of the catalogue."""
    catalogue = releases.catalogue()
    rows = [
        (series, members[-1].release, members[-1].date, str(len(members)))
        for series in releases.series()
        if (members := [release for release in catalogue if release.series == series])
    ]
    head = ("Series", "Newest", "Of", "Releases")
    text = "`slurm-factory versions` lists them all; each is known by its checksum."
    return f"## Releases\n\n{text}\n\n{table(head, rows)}"


def exit_codes_section() -> str:
    """What the exit codes mean, one exception class each."""
    base = exceptions.SlurmFactoryError
    classes: list[type[exceptions.SlurmFactoryError]] = [base, *base.__subclasses__()]
    meanings = {cls.exit_code: cls.meaning for cls in classes}
    rows = [("0", "done"), *((str(code), meanings[code]) for code in sorted(meanings))]
    rows.append((str(READER_GONE), UNREAD))
    return f"## Exit codes\n\n{table(('Code', 'Meaning'), rows)}"


def workflows_section() -> str:
    """What a workflow of GitHub gets."""
    rows = [(f"`{name}`", meaning) for name, meaning in answers.OUTPUTS.items()]
    return f"## GitHub Actions\n\n{WORKFLOWS}\n{table(('Output', 'Meaning'), rows)}"


def page() -> str:
    """The whole text of docs/options.md."""
    commands = "\n".join(command_sections())
    sections = (
        INTRODUCTION,
        f"## Command line\n\n{commands}",
        settings_section(),
        features_section(),
        bases_section(),
        releases_section(),
        workflows_section(),
        exit_codes_section(),
    )
    return "\n".join(sections)


def limits_page() -> str:
    """docs/limits.md as it is, with the table of plugins that no package has made anew."""
    before, _, rest = LIMITS.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [
        (plugin_names(absence), ", ".join(f"`{line}`" for line in absence.settings), absence.reason)
        for absence in features.known_absences()
    ]
    absent = table(("Plugin", "Setting that needs it", "Reason"), rows)
    return f"{before}{BEGIN}{absent}{END}{after}"


def plugin_names(absence: features.Absence) -> str:
    """The plugins of a row, as files; of many that are alike, the first and the last."""
    names = [f"`{name}`" for name in absence.plugins]
    if absence.one_of_them:
        return f"all but one of {names[0]} … {names[-1]}"
    return ", ".join(names)


def main() -> None:
    """Write the pages, or compare them."""
    for path, make in ((PAGE, page), (LIMITS, limits_page)):
        if "--check" not in sys.argv[1:]:
            path.write_text(make(), "utf-8")
        elif not path.exists() or path.read_text("utf-8") != make():
            sys.exit(f"{path.name} is out of date; run: make docs")


if __name__ == "__main__":
    main()
