"""Set the outputs of plan-cache.sh from what `slurm-factory build --dry-run --json` prints.

usage: set_cache_outputs.py OUTCOME < DOCUMENT
"""

import json
import os
import sys

from slurm_factory.exceptions import OutputError
from slurm_factory.output.github import set_outputs

WHOLE = {"", "success", "skipped"}
"""Outcomes of a build after which caches are not filled without a finished package."""


def main(outcome: str) -> None:
    """Set the outputs of the step."""
    cache = json.load(sys.stdin)["cache"]
    key, restore_keys = cache["key"], cache["restore_keys"]
    if outcome not in WHOLE:
        # The service never replaces a cache: this name must stay free for a whole one.
        run = "-".join(os.environ[f"GITHUB_RUN_{part}"] for part in ("ID", "ATTEMPT"))
        key = f"{restore_keys[0]}unfinished-{run}"
    outputs = {"key": key, "restore-keys": "\n".join(restore_keys)}
    set_outputs(outputs | {"paths": "\n".join(cache["paths"])})


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OutputError as error:
        sys.exit(str(error))
