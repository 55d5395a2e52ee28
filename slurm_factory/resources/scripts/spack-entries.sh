#!/usr/bin/env bash
# Collect packages that Spack has pushed to a build cache: OUT/<hash>.json and the parts that it names.
# CACHE: the build cache. HASHES: of packages, one a line; others need not be there. OUT: directory.
# The names are short: that of a commit does not fit into a tar stream.
set -euo pipefail
shopt -s nullglob

mkdir -p "${OUT}"
cd "${CACHE}" 2> /dev/null || exit 0
while read -r hash; do
    for entry in v3/manifests/spec/*/*-"${hash}".spec.manifest.json; do
        cp -l "${entry}" "${OUT}/${hash}.json"
        digests=$(grep -oE '"checksum": *"[0-9a-f]{64}"' "${entry}" | grep -oE '[0-9a-f]{64}') || true
        for digest in ${digests}; do
            [[ -e ${OUT}/${digest} ]] || cp -l "blobs/sha256/${digest:0:2}/${digest}" "${OUT}/${digest}"
        done
        break
    done
done <<< "${HASHES}"
