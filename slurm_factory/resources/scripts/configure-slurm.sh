#!/usr/bin/env bash
# Configure Slurm. SOURCE: its source. CONFIGURE_ARGUMENTS: one a line. CFLAGS LDFLAGS CC.
# CACHE: file with results of an earlier run with the same inputs, or empty.
set -euo pipefail

cd "${SOURCE}"
mapfile -t arguments <<< "${CONFIGURE_ARGUMENTS}"
export CFLAGS LDFLAGS CC
if [[ -n ${CACHE} ]]; then
    cp "${CACHE}" config.cache
    if ./configure --config-cache "${arguments[@]}"; then
        exit 0
    fi
    echo "Configuring without the saved results"
    rm config.cache
fi
./configure --config-cache "${arguments[@]}"
