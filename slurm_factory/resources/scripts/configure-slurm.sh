#!/usr/bin/env bash
# Configure Slurm. SOURCE: its source. CONFIGURE_ARGUMENTS: one a line. CFLAGS LDFLAGS CC.
# SAVED: file with configure's result, for later builds with the same arguments; or empty.
set -euo pipefail

cd "${SOURCE}"
# config.status contains configure's results, and writes the same files as configure.
if [[ -n ${SAVED} && -f ${SAVED} ]]; then
    cp "${SAVED}" config.status
    if bash ./config.status; then
        exit 0
    fi
fi
mapfile -t arguments <<< "${CONFIGURE_ARGUMENTS}"
export CFLAGS LDFLAGS CC
./configure "${arguments[@]}"
if [[ -n ${SAVED} ]]; then
    cp config.status "${SAVED}.part"
    mv "${SAVED}.part" "${SAVED}"
fi
