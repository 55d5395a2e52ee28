#!/bin/bash
# Runs `slurm-factory build` with the inputs of the action.
#
# usage: build.sh [OPTION...]    (further options, such as --dry-run)
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=tools/action/lib.sh
source "$here/lib.sh"

mapfile -d '' options < "$OPTIONS_FILE"
exec "$here/../with-lxd-group.sh" "$here/../../.venv/bin/slurm-factory" build "${options[@]}" "$@"
