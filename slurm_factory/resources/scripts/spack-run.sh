#!/usr/bin/env bash
# Run a Spack command. SPACK: the program. PROJECT: directory with spack.yaml. ARGUMENTS: one a line.
set -euo pipefail

# Spack 1.1's new installer reads keys from its standard input. It refuses /dev/null ("Operation not
# permitted") and loops without a pause at the end of its input: give it a pipe that stays empty.
directory=$(mktemp -d)
mkfifo "${directory}/keys"
exec 0<> "${directory}/keys"
rm -r "${directory}"

mapfile -t words <<< "${ARGUMENTS}"
exec "${SPACK}" -D "${PROJECT}" "${words[@]}"
