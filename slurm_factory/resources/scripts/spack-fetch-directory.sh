#!/usr/bin/env bash
# Copy the first directory that matches a glob below one of several prefixes.
# PREFIXES: directories, one a line. PATTERNS: globs relative to them, one a line.
# OUT: directory; its content goes to OUT/content, and OUT/directory.tsv gets prefix and path.
set -euo pipefail
shopt -s nullglob

mkdir -p "${OUT}"
mapfile -t searched <<< "${PREFIXES}"
while read -r pattern; do
    for prefix in "${searched[@]}"; do
        # The prefix is not a pattern; the rest is meant to be expanded.
        # shellcheck disable=SC2206
        matches=("${prefix}"/${pattern})
        for path in "${matches[@]}"; do
            [[ -d ${path} ]] || continue
            cp -rL "${path}" "${OUT}/content"
            find "${OUT}/content" \( -name '*.la' -o -name '*.a' \) -delete
            find "${OUT}/content" -name '*.so*' -type f -exec strip --strip-unneeded {} +
            printf '%s\t%s\n' "${prefix}" "${path}" > "${OUT}/directory.tsv"
            exit 0
        done
    done
done <<< "${PATTERNS}"
