#!/usr/bin/env bash
# Run a Spack command. SPACK: the program. PROJECT: directory with spack.yaml. ARGUMENTS: one a line.
set -euo pipefail

# Spack 1.1's new installer listens to its standard input for keys. It refuses /dev/null ("Operation
# not permitted") and never rests where the input is at its end: give it a pipe that stays empty.
directory=$(mktemp -d)
mkfifo "${directory}/keys"
exec 0<> "${directory}/keys"
rm -r "${directory}"

mapfile -t words <<< "${ARGUMENTS}"
exec "${SPACK}" -D "${PROJECT}" "${words[@]}"
