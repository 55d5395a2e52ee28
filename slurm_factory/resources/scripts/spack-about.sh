#!/usr/bin/env bash
# Copy what packages keep beside their files: archived files and license files.
# PACKAGES: lines of name, hash, prefix; separated by |. OUT: directory; each package gets OUT/<hash>.
set -euo pipefail

while IFS='|' read -r name hash prefix; do
    out="${OUT}/${hash}"
    mkdir -p "${out}"
    [[ ! -d ${prefix}/.spack/archived-files ]] || cp -r "${prefix}/.spack/archived-files" "${out}/"
    [[ ! -d ${prefix}/share/licenses/${name} ]] || cp -rL "${prefix}/share/licenses/${name}" "${out}/licenses"
done <<< "${PACKAGES}"
find "${OUT}" -type l -delete
