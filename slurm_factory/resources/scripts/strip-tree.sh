#!/usr/bin/env bash
# Remove from an installed tree everything that is only needed to build or to debug. TREE:
# directory. STRIP: the command for its architecture, or strip.
set -euo pipefail

find "${TREE}/lib" \( -name '*.la' -o -name '*.a' \) -delete
# Slurm installs this page even if it has not built the daemon.
[[ -e ${TREE}/sbin/slurmrestd ]] || rm -f "${TREE}/share/man/man8/slurmrestd.8"

# Before patchelf, never after: strip may move the sections that patchelf has placed.
# grep ends with 1 if none of its files is ELF, which xargs would turn into 123 (xargs(1)).
# shellcheck disable=SC2016 # the inner shell expands
find "${TREE}" -type f -print0 \
    | xargs -0 -r sh -c 'grep -lZa "$0" -- "$@" || [ $? -eq 1 ]' $'^\177ELF' \
    | xargs -0 -r -P 4 -n 16 "${STRIP:-strip}" --strip-unneeded
