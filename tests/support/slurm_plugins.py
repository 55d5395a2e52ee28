"""Slurm's own list of its plugins, as its Makefiles have it.

`python tests/support/slurm_plugins.py ARCHIVE…` regenerates the recorded lists (one archive per
series).
"""

import json
import re
import sys
import tarfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from slurm_factory.plan.features import Feature, known_absences

RECORDED = Path(__file__).parent / "data/slurm_plugins.json"
MAKEFILE = re.compile(r"[^/]+/(?P<path>src/(slurmrestd/)?plugins/(.*/)?Makefile\.am)")
ASSIGNMENT = re.compile(r"(?P<name>\w+)\s*\+?=\s*(?P<value>.*)")
INSTALLED = re.compile(r"pkglib(_v\d+)?_LTLIBRARIES")
PLUGIN_DIRECTORY = "lib/slurm/"
Conditions = frozenset[str]


def plugins_in(archive: Path) -> dict[str, Conditions]:
    """What the source in `archive` can build.

    Returns:
        For each plugin, as its file in lib/slurm without .so, what configure has to find for it:
        conditionals of automake, such as WITH_CURL.
    """
    with tarfile.open(archive) as source:
        makefiles = {
            PurePosixPath(found["path"]).parent: content.read().decode()
            for member in source
            if (found := MAKEFILE.fullmatch(member.name))
            and (content := source.extractfile(member))
        }
    entered: dict[PurePosixPath, Conditions] = {}
    plugins: dict[str, Conditions] = {}
    for directory, text in sorted(makefiles.items()):
        here = entered.get(directory, frozenset())
        values = defaultdict[str, list[tuple[str, Conditions]]](list)
        for name, value, conditions in _assignments(text):
            values[name].append((value, here | conditions))
        for value, conditions in values["SUBDIRS"]:
            entered |= {directory / below: conditions for below in value.split()}
        for name in filter(INSTALLED.fullmatch, list(values)):
            plugins |= dict(_libraries(name, values))
    return plugins


def _assignments(makefile: str) -> Iterator[tuple[str, str, Conditions]]:
    """Name, value and conditions of each variable; of `else`, the condition with `!`."""
    conditions: list[str] = []
    for line in makefile.replace("\\\n", " ").splitlines():
        word, _, condition = line.strip().partition(" ")
        if word == "if":
            conditions.append(condition.strip())
        elif word == "else":
            conditions[-1] = f"!{conditions[-1]}"
        elif word == "endif":
            conditions.pop()
        elif assigned := ASSIGNMENT.match(line):
            yield assigned["name"], assigned["value"], frozenset(conditions)


def _libraries(
    name: str, values: Mapping[str, list[tuple[str, Conditions]]]
) -> Iterator[tuple[str, Conditions]]:
    for value, conditions in values[name]:
        for library in re.findall(r"([\w.-]+)\.la\b", value):
            yield library, conditions
        for variable in re.findall(r"\$\((\w+)\)", value):
            for library, more in _libraries(variable, values):
                yield library, conditions | more


def recorded() -> dict[str, dict[str, Conditions]]:
    """The list of the newest release of each series, as `plugins_in` found it."""
    lists = json.loads(RECORDED.read_text("utf-8"))
    return {
        series: {plugin: frozenset(conditions) for plugin, conditions in plugins.items()}
        for series, plugins in lists.items()
    }


def unexplained(
    plugins: Collection[str], present: Collection[str], left_out: Iterable[Feature]
) -> set[str]:
    """Plugins that are missing without a known reason, and those that should be and are not.

    Args:
        plugins: All that the release can build.
        present: Files of the package's lib/slurm, without .so.
        left_out: Features that the package does not have.
    """
    optional = {
        file.removeprefix(PLUGIN_DIRECTORY).removesuffix(".so")
        for feature in left_out
        for file in feature.files
        if file.startswith(PLUGIN_DIRECTORY)
    }
    missing = set(plugins) - set(present)
    known = set[str]()
    for absence in known_absences():
        there = set(absence.plugins) & set(present)
        known |= set(absence.plugins) - there if absence.one_of_them else set(absence.plugins)
    return (missing - known - optional) | (known & set(present))


def record(archives: Iterable[Path]) -> None:
    """Write the lists of these sources, one of each series (slurm-24-11-7-1.tar.gz)."""
    series_of = {path: "{}.{}".format(*path.name.split("-")[1:3]) for path in sorted(archives)}
    rows = [
        f" {json.dumps(series)}: {{\n"
        + ",\n".join(
            f"  {json.dumps(plugin)}: {json.dumps(sorted(conditions))}"
            for plugin, conditions in sorted(plugins_in(path).items())
        )
        + "\n }"
        for path, series in series_of.items()
    ]
    RECORDED.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")


if __name__ == "__main__":
    record(map(Path, sys.argv[1:]))
