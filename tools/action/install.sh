#!/bin/bash
# Installs slurm-factory beside these scripts, and what its builds need on this machine.
#
# usage: install.sh
# INPUT_LXD, INPUT_VERIFY: inputs of the action. Packages are verified in instances of LXD.
set -euo pipefail

here=$(dirname "$0")
root=$here/../..
program=$root/.venv/bin/slurm-factory

# Images of containers may lack it.
command -v make > /dev/null || "$here/../apt-install.sh" make
make --silent -C "$root" environment
if [[ ${INPUT_LXD:-false} == true || ${INPUT_VERIFY:-false} == true ]]; then
    "$program" setup
fi
if [[ ${INPUT_LXD:-false} == false ]]; then
    "$program" setup --destructive-mode
fi
