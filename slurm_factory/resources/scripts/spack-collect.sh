#!/usr/bin/env bash
# Make one tree from parts of several packages. TREE: directory to make.
# PARTS: lines of package, prefix, path below both the prefix and the tree; separated by |.
# INSTALLED: gets, for each file that is not Slurm's, its path in the tree, a tab and the package.
set -euo pipefail

mkdir -p "${TREE}"
: > "${INSTALLED}"
while IFS='|' read -r package prefix part; do
    [[ -e ${prefix}/${part} ]] || continue
    mkdir -p "$(dirname "${TREE}/${part}")"
    cp -dR --preserve=mode,timestamps,links --no-target-directory "${prefix}/${part}" "${TREE}/${part}"
    if [[ ${package} != slurm ]]; then
        (cd "${prefix}" && find "${part}" -type f -printf "%p\t${package}\n") >> "${INSTALLED}"
    fi
done <<< "${PARTS}"

# Open MPI links its `pcc` to a program of PMIx, which is not in the tree.
find "${TREE}" -type l -lname '/*' -printf 'left out: %P -> %l\n' -delete
