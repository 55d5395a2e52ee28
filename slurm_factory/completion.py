"""Shell completion for the values of options; reads only data files, to be quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol

from slurm_factory.constants import BASE_GLIBC, LATEST, ROLES, SAME, BuildType, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.package.file_names import MANIFEST_END
from slurm_factory.resources import deploy_file, load_json, load_toml

DEPLOYED = "/opt/slurm"
"""Where deploy.sh looks without `--prefix`."""


class Given(Protocol):
    """What typer knows of the command line before the word that is being completed.

    Attributes:
        params: Values of the options.
    """

    params: Mapping[str, Any]


class _Word:
    """The word that is being completed, where bash has split it."""

    head = ""
    """What bash took for words of their own and leaves as it is."""


def join_words(environment: MutableMapping[str, str]) -> None:
    """Put words together that bash has split at `@` and `=` (COMP_WORDBREAKS), for typer to read.

    Bash replaces no more than what begins with the last `@`, or follows the last `=`. What is
    before that is left out of the word to be completed, and of its completions.

    Args:
        environment: As the completion script sets it; is changed.
    """
    if environment.get("_SLURM_FACTORY_COMPLETE") != "complete_bash":
        return
    number = int(environment["COMP_CWORD"])
    pieces = environment["COMP_WORDS"].split("\n")[: number + 1]
    words: list[str] = []
    for piece in [*pieces, *[""] * (number + 1 - len(pieces))]:
        if words and (piece == "@" or words[-1].endswith("@")):
            words[-1] += piece
        elif piece != "=" or not words or not words[-1].startswith("--"):
            words.append(piece)
    if pieces[-1] == "=":
        words.append("")
    if "@" in pieces[-2:] and number < len(pieces):
        _Word.head, at, begun = words[-1].rpartition("@")
        words[-1] = f"{at}{begun}"
    environment["COMP_WORDS"] = "\n".join(words)
    environment["COMP_CWORD"] = str(len(words) - 1)


def versions(begun: str) -> list[str]:
    """Series; after a complete series also its releases."""
    releases = load_json("releases.json")["releases"]
    names = [LATEST, *dict.fromkeys(row["series"] for row in releases)]
    names += [row["release"] for row in releases if begun.startswith(row["series"])]
    return [name for name in names if name.startswith(begun)]


def recipes(begun: str) -> list[str]:
    """Values of `--deps`."""
    return [name for name in Deps if name.startswith(begun)]


def version_lists(begun: str) -> list[str]:
    """Values of `--series`, the last of them completed."""
    before, word = _split(begun)
    return [f"{before}{name}" for name in (*versions(word), *_begun(word, ("all",)))]


def type_lists(begun: str) -> list[str]:
    """Values of `--type`, the last of them completed."""
    before, word = _split(begun)
    return [f"{before}{name}" for name in _begun(word, BuildType)]


def recipe_lists(begun: str) -> list[str]:
    """Values of `--deps` of `matrix`, the last of them completed."""
    before, word = _split(begun)
    return [f"{before}{name}" for name in recipes(word)]


def architecture_lists(begun: str) -> list[str]:
    """Values of `--arch` of `matrix`, the last of them completed."""
    before, word = _split(begun)
    return [f"{before}{name}" for name in architectures(word)]


def _split(begun: str) -> tuple[str, str]:
    """What is complete of a list, and the word that is not."""
    before, comma, word = begun.rpartition(",")
    return f"{before}{comma}", word


def _begun(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(word)]


def architectures(begun: str) -> list[str]:
    """Values of `--arch`."""
    return [name for name in ("x86_64", "aarch64") if name.startswith(begun)]


def bases(begun: str) -> list[str]:
    """Values of `--base`."""
    head = _Word.head
    names = (*(row["name"] for row in load_toml("bases.toml")["base"]), SAME)
    return [name.removeprefix(head) for name in names if name.startswith(f"{head}{begun}")]


def distros(begun: str) -> list[str]:
    """Values of `--on`, the last of them completed."""
    head = _Word.head
    before, comma, _ = f"{head}{begun}".rpartition(",")
    tables = load_toml("bases.toml")
    names = [f"{before}{comma}{row['name']}" for kind in ("base", "distro") for row in tables[kind]]
    return [name.removeprefix(head) for name in names if name.startswith(f"{head}{begun}")]


def roles(begun: str) -> list[str]:
    """Values of `--role`, the last of them completed."""
    before, comma, word = begun.rpartition(",")
    return [f"{before}{comma}{name}" for name in ROLES if name.startswith(word)]


def deployed(ctx: Given, begun: str) -> list[str]:
    """Values of `--switch` and `--remove`: the versions below `--root` and `--prefix`."""
    prefix = ctx.params.get("prefix") or DEPLOYED
    versions = Path(f"{ctx.params.get('root') or ''}{prefix}/versions")
    names = (path.parent.name for path in versions.glob("[!.]*/deployed"))
    return sorted(name for name in names if name.startswith(begun))


def upgraded_series(begun: str) -> list[str]:
    """Values of `--plan-upgrade`: the series that deploy.sh knows, also those not built here."""
    rows = (line.split() for line in deploy_file("series.txt").splitlines())
    return [row[0] for row in rows if row[0] != "#" and row[0].startswith(begun)]


def glibcs(begun: str) -> list[str]:
    """Values of `--glibc`: the releases of known distributions."""
    releases = {row["glibc"] for row in load_json("distributions.json")["distributions"]}
    return [name for name in (*sorted(releases), BASE_GLIBC) if name.startswith(begun)]


def advisories(begun: str) -> list[str]:
    """Values of `--advisory`: those of Slurm."""
    rows = load_toml("advisories.toml")["advisory"]
    return [row["id"] for row in rows if row["id"].startswith(begun)]


def packages(begun: str) -> list[str]:
    """Names of finished builds, which nothing has looked into; no others where a path has begun."""
    return [name for name in _finished_builds() if name.startswith(begun)]


def settings(begun: str) -> list[str]:
    """Names of settings."""
    from slurm_factory.config import Settings  # noqa: PLC0415  # slow to import

    return [name for name in Settings.model_fields if name.startswith(begun)]


def _finished_builds() -> list[str]:
    from slurm_factory.config import load_settings  # noqa: PLC0415  # slow to import

    try:
        builds = load_settings().builds_dir
    except ConfigurationError:  # A command would say so; there is nowhere to say it here.
        return []
    found = builds.glob(f"*/slurm-*{MANIFEST_END}")
    return sorted(path.name.removesuffix(MANIFEST_END) for path in found)


def variants(begun: str) -> list[str]:
    """The whole text of `--additional-variants` with its last word completed."""
    before, blank, word = begun.rpartition(" ")
    features = load_toml("features.toml")["feature"]
    signed = (f"{sign}{row['variant']}" for sign in "+~" for row in features if "variant" in row)
    return [f"{before}{blank}{name}" for name in signed if name.startswith(word)]
