"""Which distributions have which glibc: where a package with a given need can run."""

from packaging.version import Version

from slurm_factory.resources import load_json


def distributions_with(glibc: str) -> tuple[str, ...]:
    """Names of the distributions that have this version of glibc, such as "2.36", or a newer one.

    The table holds what each distribution was released with: none changes its glibc's version
    afterwards.
    """
    needed = Version(glibc)
    rows = load_json("distributions.json")["distributions"]
    return tuple(row["name"] for row in rows if Version(row["glibc"]) >= needed)
