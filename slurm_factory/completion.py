"""What the shell may complete an option's value to; read from the data alone, to be quick."""

from __future__ import annotations

from slurm_factory.constants import LATEST, SAME, Deps
from slurm_factory.resources import load_json, load_toml


def versions(begun: str) -> list[str]:
    """Series; with a whole series typed its releases too."""
    releases = load_json("releases.json")["releases"]
    names = [LATEST, *dict.fromkeys(row["series"] for row in releases)]
    names += [row["release"] for row in releases if begun.startswith(row["series"])]
    return [name for name in names if name.startswith(begun)]


def recipes(begun: str) -> list[str]:
    """Values of `--deps`."""
    return [name for name in Deps if name.startswith(begun)]


def bases(begun: str) -> list[str]:
    """Values of `--base`."""
    names = (row["name"] for row in load_toml("bases.toml")["base"])
    return [name for name in (*names, SAME) if name.startswith(begun)]


def variants(begun: str) -> list[str]:
    """The whole text of `--additional-variants` with its last word completed."""
    before, blank, word = begun.rpartition(" ")
    features = load_toml("features.toml")["feature"]
    signed = (f"{sign}{row['variant']}" for sign in "+~" for row in features if "variant" in row)
    return [f"{before}{blank}{name}" for name in signed if name.startswith(word)]
