#!/usr/bin/env bash
# Copy what is known of packages: archived files, license files, recipes.
# PACKAGES: lines of name, hash, prefix; separated by |. REPOSITORIES: directories of recipes, one a
# line. OUT: directory; each package gets OUT/<hash>.
set -euo pipefail

while IFS='|' read -r name hash prefix; do
    out="${OUT}/${hash}"
    mkdir -p "${out}"
    [[ ! -d ${prefix}/.spack/archived-files ]] || cp -r "${prefix}/.spack/archived-files" "${out}/"
    [[ ! -d ${prefix}/share/licenses/${name} ]] || cp -rL "${prefix}/share/licenses/${name}" "${out}/licenses"
    number=0
    while read -r repository; do
        number=$((number + 1))
        recipe="${repository}/packages/${name//-/_}/package.py"
        [[ ! -f ${recipe} ]] || cp "${recipe}" "${out}/recipe-${number}.py"
    done <<< "${REPOSITORIES}"
done <<< "${PACKAGES}"
