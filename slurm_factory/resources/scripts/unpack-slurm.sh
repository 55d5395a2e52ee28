#!/usr/bin/env bash
# Unpack and patch Slurm's source.
# ARCHIVE: the source archive. SOURCE: directory to make. PATCHES: directory. PATCH_NAMES: in order.
set -euo pipefail

rm -rf "${SOURCE}"
mkdir -p "${SOURCE}"
tar -xf "${ARCHIVE}" -C "${SOURCE}" --strip-components=1 --no-same-owner
cd "${SOURCE}"
while read -r name; do
    [[ -n ${name} ]] || continue
    echo "Applying ${name}"
    # No fuzz: a patch that does not apply exactly has not been tested with this release. By force:
    # in a batch, patch(1) would reverse one that is there already.
    patch -p1 -F0 --force --no-backup-if-mismatch < "${PATCHES}/${name}"
done <<< "${PATCH_NAMES}"
