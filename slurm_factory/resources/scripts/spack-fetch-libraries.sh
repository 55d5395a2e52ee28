#!/usr/bin/env bash
# Copy shared libraries from Spack's prefixes.
# PREFIXES: directories, one a line; the first that has a library is taken. SONAMES: one a line.
# OUT: directory; OUT/libraries.tsv gets a line for each that was found: soname, prefix, path.
set -euo pipefail

mkdir -p "${OUT}/lib"
: > "${OUT}/libraries.tsv"
mapfile -t searched <<< "${PREFIXES}"
while read -r soname; do
    for prefix in "${searched[@]}"; do
        for directory in lib lib64; do
            [[ -f ${prefix}/${directory}/${soname} ]] || continue
            path=$(readlink -f "${prefix}/${directory}/${soname}")
            cp "${path}" "${OUT}/lib/${soname}"
            printf '%s\t%s\t%s\n' "${soname}" "${prefix}" "${path}" >> "${OUT}/libraries.tsv"
            continue 3
        done
    done
done <<< "${SONAMES}"
# Nothing else strips the libraries of a package; programs are stripped later.
find "${OUT}/lib" -type f -exec strip --strip-unneeded {} +
