#!/usr/bin/env bash
# Configure Slurm. SOURCE: its source. CONFIGURE_ARGUMENTS: one a line. CFLAGS LDFLAGS CC.
# KEPT: file that keeps configure's outcome for the next build that is configured alike, or empty.
set -euo pipefail

cd "${SOURCE}"
# config.status holds all that configure has found out, and writes all that configure writes.
if [[ -n ${KEPT} && -f ${KEPT} ]]; then
    cp "${KEPT}" config.status
    if bash ./config.status; then
        exit 0
    fi
fi
mapfile -t arguments <<< "${CONFIGURE_ARGUMENTS}"
export CFLAGS LDFLAGS CC
./configure "${arguments[@]}"
if [[ -n ${KEPT} ]]; then
    cp config.status "${KEPT}.part"
    mv "${KEPT}.part" "${KEPT}"
fi
