"""Write docs/options.md, the manual page, and parts of other pages, from the code and its data.

`--check` only checks whether they are up to date. `--record MANIFEST…` first adds the distributions
on which packages have been verified to docs/verified.json, for the tables of compatibility.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

# Samples of machines.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import doctor
import documents
import examples
import navigation
from man_page import man_page
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from typer.core import TyperGroup
from typer.main import get_command

from slurm_factory import answers, exceptions, usage
from slurm_factory.config import ENVIRONMENT_PREFIX, Settings
from slurm_factory.constants import BuildType
from slurm_factory.main import app
from slurm_factory.output.stdout import READER_GONE
from slurm_factory.package.distributions import Distribution, distributions
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.verification import load_verification
from slurm_factory.plan import bases, features, releases
from slurm_factory.plan.glibc import OLDEST_GLIBC
from slurm_factory.verify.cluster import check_kinds

PAGE = Path(__file__).with_name("options.md")
MANUAL = Path(__file__).with_name("slurm-factory.1")
LIMITS = Path(__file__).with_name("limits.md")
BEGIN = "<!-- made by `make docs` from resources/known-absences.toml -->\n"
END = "<!-- end -->\n"
COMPATIBILITY = Path(__file__).with_name("compatibility.md")
DISTRIBUTIONS = "<!-- made by `make docs` from resources/distributions.json -->\n"
VERIFIED = Path(__file__).with_name("verified.json")
BY_SERIES = "<!-- made by `make docs` from verified.json -->\n"
README = Path(__file__).parents[1] / "README.md"
VERIFICATION = Path(__file__).with_name("verification.md")
CHECKS = "<!-- made by `make docs` from resources/verify/checks.toml -->\n"
COMMANDS = Path(__file__).with_name("commands.md")
JSON = Path(__file__).with_name("json.md")
FIELDS = "<!-- made by `make docs` from the code and documents.toml -->\n"
TROUBLESHOOTING = Path(__file__).with_name("troubleshooting.md")
DOCTOR = "<!-- made by `make docs` from host/checks.py -->\n"
INDEX = Path(__file__).with_name("index.md")
LIST = "<!-- made by `make docs` from the front matter of the pages -->\n"
PROGRAM = "slurm-factory"
INTRODUCTION = """\
---
layout: default
title: Options, settings, features
nav_order: 400
permalink: /options/
group: Reference
---

# Options, settings, features

Generated from the code by `make docs`; a test fails if this page is out of date.
"""
SETTINGS = """\
The command line takes precedence over the environment, and the environment over the file
`~/.config/slurm-factory/config.toml` (or below `$XDG_CONFIG_HOME`). The file holds lines such as
`memory_limit = "8GiB"`; an unknown key in it is an error, an unknown variable `SLURM_FACTORY_…`
causes a warning. Separate several URLs in one variable by spaces or commas, as in
`SLURM_FACTORY_SOURCE_MIRRORS="http://mirror.example/slurm file:///srv/slurm"`. A JSON list also
works. slurm-factory takes proxies (`http_proxy`, `https_proxy`, `no_proxy`) from the environment.
The instances get them, too.
"""
FEATURES = """\
A build type has the features marked with x. `--additional-variants "+hdf5 ~restd"` adds and removes
features by the names in the column Variant, which are those of Spack's Slurm package if it has one.
A feature without such a name comes with its build types and is not optional. The build enables each
feature in configure, and fails if configure disables one or if a file of the feature is missing.
"""
WORKFLOWS = """\
In a GitHub Actions workflow, each step of a build is a group in the log, and an error is an
annotation, that of a compiler with file and line. The job summary gets a section for each build. It
has the files and steps, or the reason of a failure. [ci.md](ci.md) has the action. `build` sets
these outputs of its step, also if the package is up to date:
"""
UNRUN = "<!-- not run: a test parses it; commands.md has commands with their output -->\n"
UNREAD = "the reader of the output ended early (`| head -1`); the build itself is finished"


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
    yield command_section(PROGRAM, "Options before the command.", group, above)
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=above, resilient_parsing=True)
        yield command_section(f"{PROGRAM} {name}", command.help or "", command, context)


def command_section(name: str, text: str, command: Any, context: Any) -> str:
    """One command: what it does, and its options with the text of `--help`."""
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    if isinstance(command, usage.Command):
        records = [record for group in command.groups(context).values() for record in group]
    rows = [(f"`{left}`", right.replace("  [", " [")) for left, right in filter(None, records)]
    shown = [f"{does}:\n\n{UNRUN}```sh\n{run}\n```\n" for does, run in usage.examples(command.name)]
    options = table(("Option", "Meaning"), rows)
    return "\n".join([f"### `{name}`\n\n{text}\n\n{options}", *shown])


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
    """The feature table, and the features that a plan cannot have."""
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
    cannot = table(("Feature", "Not available", "Reason"), empty)
    return f"## Features\n\n{FEATURES}\n{table(head, rows)}\n{cannot}"


def where(cell: features.Empty) -> str:
    """The plans that an empty cell applies to."""
    parts = [
        f"`--deps {cell.recipe}`" if cell.recipe else "",
        f"on {', '.join(cell.bases)}" if cell.bases else "",
        f"for {', '.join(cell.architectures)}" if cell.architectures else "",
        "compiled on another architecture" if cell.cross else "",
        f"before {cell.before}" if cell.before else "",
    ]
    return " ".join(part for part in parts if part) or "anywhere"


def bases_section() -> str:
    """The bases."""
    rows = [(f"`{base.name}`", base.codename, base.glibc) for base in bases.bases()]
    head = ("Base", "Codename", "glibc")
    text = "`--base same` means the base in this table that this machine runs."
    return f"## Bases\n\n{text}\n\n{table(head, rows)}"


def releases_section() -> str:
    """The series of the catalog."""
    catalog = releases.catalog()
    rows = [
        (series, members[-1].release, members[-1].date, str(len(members)))
        for series in releases.series()
        if (members := [release for release in catalog if release.series == series])
    ]
    head = ("Series", "Newest", "Of", "Releases")
    text = "`slurm-factory versions` lists all releases."
    return f"## Releases\n\n{text}\n\n{table(head, rows)}"


def exit_codes_section() -> str:
    """The meanings of the exit codes, one exception class each."""
    base = exceptions.SlurmFactoryError
    classes: list[type[exceptions.SlurmFactoryError]] = [base, *base.__subclasses__()]
    meanings = {cls.exit_code: cls.meaning for cls in classes}
    rows = [("0", "done"), *((str(code), meanings[code]) for code in sorted(meanings))]
    rows.append((str(READER_GONE), UNREAD))
    return f"## Exit codes\n\n{table(('Code', 'Meaning'), rows)}"


def workflows_section() -> str:
    """The outputs for a GitHub workflow."""
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
    """docs/limits.md with a new table of the plugins that no package has."""
    rows = [
        (plugin_names(absence), ", ".join(f"`{line}`" for line in absence.settings), absence.reason)
        for absence in features.known_absences()
    ]
    absent = table(("Plugin", "Setting that needs it", "Reason"), rows)
    return with_table(LIMITS.read_text("utf-8"), BEGIN, absent)


def with_table(page: str, begin: str, made: str) -> str:
    """The text of a page with a new table behind the line `begin`."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}{made}{END}{after}"


def compatibility_page() -> str:
    """docs/compatibility.md with new tables of distributions."""
    known = bases.bases()
    head = ("Distribution", "glibc", f"Spack ({OLDEST_GLIBC})", *(each.name for each in known))
    needed = (OLDEST_GLIBC, *(each.glibc for each in known))
    rows = [
        (each.name, each.glibc, *("yes" if each.starts(glibc, ()) else "no" for glibc in needed))
        for each in distributions()
    ]
    text = with_table(COMPATIBILITY.read_text("utf-8"), DISTRIBUTIONS, table(head, rows))
    return with_table(text, BY_SERIES, "\n".join(tables_by_series()))


Verified = dict[str, str]


def verified() -> list[Verified]:
    """What clusters have run from: a package and a distribution each."""
    return cast("list[Verified]", json.loads(VERIFIED.read_text("utf-8")))


def record(manifests: Iterable[str]) -> None:
    """Add what packages (host paths of manifests) have been verified on, if that passed."""
    rows = {(row["stem"], row["on"]): row for row in verified()}
    for path in map(Path, manifests):
        identity = load_manifest(path).identity
        found = load_verification(path.with_name(identity.verification))
        for trial in found.trials if found.passed else ():
            rows[identity.stem, trial.title] = {
                "stem": identity.stem,
                "series": identity.series,
                "release": identity.release,
                "recipe": identity.deps,
                "base": identity.base,
                "type": identity.build_type,
                "glibc": found.glibc,
                "on": trial.title,
                "date": f"{trial.at:%Y-%m-%d}",
                "by": f"slurm-factory {found.slurm_factory}",
            }
    text = json.dumps([rows[key] for key in sorted(rows)], indent=1)
    VERIFIED.write_text(f"{text}\n", "utf-8")


def tables_by_series() -> Iterator[str]:
    """A table for each recipe and base that was verified: distributions and series."""
    rows = verified()
    for recipe, base in sorted({(row["recipe"], row["base"]) for row in rows}):
        of = [row for row in rows if (row["recipe"], row["base"]) == (recipe, base)]
        yield f"\n`--deps {recipe}`, built on {base}:\n\n"
        floor = OLDEST_GLIBC if recipe == "spack" else bases.find_base(base, ("", "")).glibc
        head = ("Distribution", *releases.series())
        yield table(
            head,
            [
                (each.name, *(cell(each, floor, of, series) for series in releases.series()))
                for each in distributions()
            ],
        )


def cell(distribution: Distribution, floor: str, rows: Sequence[Verified], series: str) -> str:
    """When and with which release a cluster ran, or what the numbers say."""
    found = [row for row in rows if row["on"] == distribution.name and row["series"] == series]
    if found:
        last = max(row["date"] for row in found)
        types = ", ".join(sorted({row["type"] for row in found}))
        released = ", ".join(sorted({row["release"] for row in found}))
        return f"{released} {types}: ran {last}"
    if distribution.starts(floor, ()):
        return "by the numbers"
    return f"no: glibc {distribution.glibc}"


def readme_page() -> str:
    """README.md with the distributions on which clusters have run."""
    rows = []
    for each in distributions():
        found = [row for row in verified() if row["on"] == each.name]
        spack = [row for row in found if row["recipe"] == "spack"]
        system = [row for row in found if row["recipe"] == "system"]
        possible = "by its glibc" if each.starts(OLDEST_GLIBC, ()) else "no"
        shown = (of_readme(spack) or possible, of_readme(system) or "with a base of its age")
        rows.append((each.name, each.glibc, *shown))
    head = ("Distribution", "glibc", "`--deps spack`", "`--deps system`")
    return with_table(README.read_text("utf-8"), BY_SERIES, table(head, rows))


def of_readme(rows: Sequence[Verified]) -> str:
    """Series of which clusters have run."""
    return ", ".join(sorted({row["series"] for row in rows}))


def verification_page() -> str:
    """docs/verification.md with a new table of the checks of a cluster."""
    rows = [(kind.name, kind.about, kind.needs and f"`{kind.needs}`") for kind in check_kinds()]
    made = table(("Check", "Shows", "Needs"), rows)
    return with_table(VERIFICATION.read_text("utf-8"), CHECKS, made)


def commands_page() -> str:
    """docs/commands.md with the outputs of its commands."""
    return examples.with_outputs(COMMANDS.read_text("utf-8"))


def json_page() -> str:
    """docs/json.md with the fields of every document."""
    made = "\n".join(json_sections())
    return with_table(JSON.read_text("utf-8"), FIELDS, f"\n{made}\n")


def json_sections() -> Iterator[str]:
    """The documents, then their records."""
    texts = documents.texts()
    meanings = texts["meanings"]
    head = ("Field", "Type", "Meaning")
    records = {documents.title(cls): cls for cls in documents.ANSWERS}
    yield "## Documents of commands\n"
    for document in texts["document"]:
        rows = [(f"`{name}`", *rest) for name, *rest in document.get("fields", ())]
        if "record" in document:
            rows += documents.rows_of(records[document["record"]], meanings)
        about = f"### `{document['command']}`\n\n{document['about']}\n"
        yield f"{about}\n{table(head, rows)}"
    shown = [document.get("record") for document in texts["document"]]
    for heading, classes in (
        ("Records in them", [cls for name, cls in records.items() if name not in shown]),
        ("The manifest", documents.MANIFEST),
        ("The record of a verification", documents.VERIFICATION),
    ):
        yield f"## {heading}\n"
        for cls in classes:
            rows = documents.rows_of(cls, meanings)
            yield f"### {documents.title(cls)}\n\n{table(head, rows)}"


def troubleshooting_page() -> str:
    """docs/troubleshooting.md with an entry for each check of doctor."""
    made = "\n".join(doctor_sections())
    return with_table(TROUBLESHOOTING.read_text("utf-8"), DOCTOR, f"\n{made}\n")


def doctor_sections() -> Iterator[str]:
    """What each check shows, what it says if it does not pass, and what fixes it."""
    for name, about, problems in doctor.sections():
        yield f"### {name}\n\n{about}\n\n{table(('doctor says', 'Fix'), problems)}"


def index_page() -> str:
    """docs/index.md with a list of all pages."""
    made = "".join(
        f"\n{group}:\n\n" + "".join(f"- [{page.title}]({page.path.name})\n" for page in members)
        for group, members in navigation.groups(navigation.pages())
    )
    return with_table(INDEX.read_text("utf-8"), LIST, f"{made}\n")


def plugin_names(absence: features.Absence) -> str:
    """The plugins of a row as file names; for a series of plugins, the first and the last."""
    names = [f"`{name}`" for name in absence.plugins]
    if absence.one_of_them:
        return f"all but one of {names[0]} … {names[-1]}"
    return ", ".join(names)


def main() -> None:
    """Write the pages, or compare them."""
    pages = (
        *((PAGE, page), (MANUAL, man_page), (LIMITS, limits_page)),
        *((COMPATIBILITY, compatibility_page), (VERIFICATION, verification_page)),
        (README, readme_page),
        *((COMMANDS, commands_page), (JSON, json_page)),
        *((TROUBLESHOOTING, troubleshooting_page), (INDEX, index_page)),
    )
    if "--record" in sys.argv[1:]:
        record(sys.argv[sys.argv.index("--record") + 1 :])
    for path, make in pages:
        if "--check" not in sys.argv[1:]:
            path.write_text(make(), "utf-8")
        elif not path.exists() or path.read_text("utf-8") != make():
            sys.exit(f"{path.name} is out of date; run: make docs")


if __name__ == "__main__":
    main()
