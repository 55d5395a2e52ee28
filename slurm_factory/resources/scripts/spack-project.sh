#!/usr/bin/env bash
# Copy the project to the directory where Spack uses it. SOURCE: its files. PROJECT: directory to
# make. INDEXES: copies of indexes of remote build caches, or empty. MISC: Spack's own cache.
set -euo pipefail

rm -rf "${PROJECT}"
mkdir -p "$(dirname "${PROJECT}")"
cp -r "${SOURCE}" "${PROJECT}"
[[ -z ${INDEXES} ]] || cp -r "${INDEXES}" "${MISC}/indices"
