#!/usr/bin/env bash
# Copy the first directory that matches a glob, with the facts about its package.
# PATTERNS: one a line. OUT: directory; its content goes to OUT/content, and OUT/directory.tsv gets
# path, package, version, architecture, source package; nothing where no pattern matches.
set -euo pipefail
shopt -s nullglob

mkdir -p "${OUT}"
while read -r pattern; do
    # shellcheck disable=SC2206 # globs are meant to be expanded
    matches=(${pattern})
    for path in "${matches[@]}"; do
        [[ -d ${path} ]] || continue
        cp -rL "${path}" "${OUT}/content"
        files=("${path}"/*)
        if ! package=$(dpkg-query -S "${files[0]}" 2> /dev/null); then
            echo "E: ${files[0]} does not belong to a package" >&2
            exit 1
        fi
        package=${package%%: *}
        about=$(dpkg-query -W -f '${Version}\t${Architecture}\t${source:Package}' "${package}")
        cp -L "/usr/share/doc/${package%%:*}/copyright" "${OUT}/copyright"
        printf '%s\t%s\t%s\n' "${path}" "${package%%:*}" "${about}" > "${OUT}/directory.tsv"
        exit 0
    done
done <<< "${PATTERNS}"
