#!/usr/bin/env bash
# Collect packages that Spack has pushed to a build cache, in the same layout.
# CACHE: the build cache. HASHES: of packages, one a line; others need not be there. OUT: directory.
set -euo pipefail
shopt -s nullglob

mkdir -p "${OUT}"
keep() {
    mkdir -p "$(dirname "${OUT}/$1")"
    cp -l "${CACHE}/$1" "${OUT}/$1"
}
cd "${CACHE}" 2> /dev/null || exit 0
while read -r hash; do
    for entry in v3/manifests/spec/*/*-"${hash}".spec.manifest.json; do
        keep "${entry}"
        digests=$(grep -oE '"checksum": *"[0-9a-f]{64}"' "${entry}" | grep -oE '[0-9a-f]{64}') || true
        for digest in ${digests}; do
            blob="blobs/sha256/${digest:0:2}/${digest}"
            [[ -e ${OUT}/${blob} ]] || keep "${blob}"
        done
    done
done <<< "${HASHES}"
