#!/bin/bash
# Sets the outputs `key`, `restore-keys` and `paths`: the cache of the build that the inputs ask for.
#
# usage: plan-cache.sh
# OUTCOME: how the build has ended; empty: it has not begun.
set -euo pipefail

here=$(dirname "$0")
"$here/build.sh" --dry-run --json --quiet |
    "$here/../../.venv/bin/python" "$here/set_cache_outputs.py" "${OUTCOME:-}"
