#!/bin/bash
# Builds Slurm 24.11.5 for the release that this machine runs: in LXD, or on the machine itself
# where LXD cannot be used.
#
# usage: build.sh PROGRAM
set -euo pipefail

program=$1
package=(--slurm-version 24.11.5 --deps system --base same)

status=0
"$program" setup || status=$?
if ((status == 0)); then
    exec "$(dirname "$0")/with-lxd-group.sh" "$program" build "${package[@]}"
fi
# Exit code 3: LXD cannot be used here, as the program has just said.
((status == 3)) || exit "$status"
echo "Going on without LXD: this machine itself builds, and gets the packages for it." >&2
"$program" setup --destructive-mode
exec "$program" build "${package[@]}" --destructive-mode
