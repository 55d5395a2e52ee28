#!/usr/bin/env bash
# Configure Slurm. SOURCE: its source. CONFIGURE_ARGUMENTS: one a line. CFLAGS LDFLAGS CC.
# CACHE: file with results of an earlier run with the same inputs, or empty. OUTCOME: checksum of the
# outcome of that run. The file config.outcome gets the checksum of this one.
set -euo pipefail

cd "${SOURCE}"
mapfile -t arguments <<< "${CONFIGURE_ARGUMENTS}"
export CFLAGS LDFLAGS CC

# All that configure has found out: config.h, and the values for Makefiles.
write_outcome() {
    { cat config.h; grep -E '^S\["' config.status; } | sha256sum | cut -d ' ' -f 1 > config.outcome
}

if [[ -n ${CACHE} ]]; then
    cp "${CACHE}" config.cache
    if ./configure --config-cache "${arguments[@]}"; then
        write_outcome
        [[ $(< config.outcome) != "${OUTCOME}" ]] || exit 0
    fi
    # Some checks set more than the value that they save.
    echo "The saved results do not serve: configuring without them"
    rm config.cache
fi
./configure --config-cache "${arguments[@]}"
write_outcome
