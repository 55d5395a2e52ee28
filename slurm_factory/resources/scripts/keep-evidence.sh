#!/usr/bin/env bash
# Copy configure's results to a directory that outlives the instance.
# SOURCE: where configure ran. OUT: directory.
set -euo pipefail

for name in config.log config.h; do
    [[ ! -f ${SOURCE}/${name} ]] || cp "${SOURCE}/${name}" "${OUT}/"
done
