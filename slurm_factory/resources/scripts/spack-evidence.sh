#!/usr/bin/env bash
# Copy the logs of packages that failed to a directory that outlives the instance.
# LOGS: build logs in the stages of the packages, one a line. OUT: directory; each gets one below it.
set -euo pipefail

while read -r log; do
    stage=$(dirname "${log}")
    [[ -d ${stage} ]] || continue
    name=$(basename "${stage}")
    out="${OUT}/${name#spack-stage-}"
    mkdir -p "${out}"
    find "${stage}" -maxdepth 1 -name 'spack-build-*' -exec cp {} "${out}/" \;
    find "${stage}" -mindepth 2 -maxdepth 4 \
        \( -name config.log -o -name CMakeConfigureLog.yaml -o -name CMakeError.log -o -name meson-log.txt \) \
        -exec cp {} "${out}/" \;
done <<< "${LOGS}"
