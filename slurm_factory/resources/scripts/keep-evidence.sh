#!/usr/bin/env bash
# Copy what configure left behind to where it outlives the instance.
# SOURCE: where configure ran. OUT: directory.
set -euo pipefail

for name in config.log config.h; do
    [[ ! -f ${SOURCE}/${name} ]] || cp "${SOURCE}/${name}" "${OUT}/"
done
