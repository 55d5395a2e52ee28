#!/bin/bash
# Builds a release without known advisories for the distribution that this machine runs: in LXD, or
# on the machine itself where no instance can start.
#
# usage: build.sh PROGRAM
set -euo pipefail

program=$1
tools=$(dirname "$0")

answer=$("$program" setup --fallback --json)
release=$("$(dirname "$program")/python" "$tools/choose_release.py")
package=(--slurm-version "$release" --deps system --base same)
if [[ $answer == *'"lxd": true'* ]]; then
    exec "$tools/with-lxd-group.sh" "$program" build "${package[@]}"
fi
exec "$program" build "${package[@]}" --destructive-mode
