#!/usr/bin/env bash
# Copy the project to the directory where Spack uses it. SOURCE: its files. PROJECT: directory to
# make. SEEN: what this machine shows of build caches elsewhere. CACHES: where Spack looks for it.
set -euo pipefail

rm -rf "${PROJECT}" "${CACHES}"
mkdir -p "$(dirname "${PROJECT}")" "$(dirname "${CACHES}")"
cp -r "${SOURCE}" "${PROJECT}"
ln -s "${SEEN}" "${CACHES}"
