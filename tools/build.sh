#!/bin/bash
# Builds Slurm 24.11.5 for the release that this machine runs: in LXD, or on the machine itself
# where no instance can start.
#
# usage: build.sh PROGRAM
set -euo pipefail

program=$1
package=(--slurm-version 24.11.5 --deps system --base same)

answer=$("$program" setup --fallback --json)
if [[ $answer == *'"lxd": true'* ]]; then
    exec "$(dirname "$0")/with-lxd-group.sh" "$program" build "${package[@]}"
fi
exec "$program" build "${package[@]}" --destructive-mode
