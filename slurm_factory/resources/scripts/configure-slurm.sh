#!/usr/bin/env bash
# Configure Slurm. SOURCE: its source. CONFIGURE_ARGUMENTS: one a line. CFLAGS LDFLAGS CC.
set -euo pipefail

cd "${SOURCE}"
mapfile -t arguments <<< "${CONFIGURE_ARGUMENTS}"
export CFLAGS LDFLAGS CC
./configure "${arguments[@]}"
