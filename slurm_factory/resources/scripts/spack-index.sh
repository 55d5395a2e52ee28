#!/usr/bin/env bash
# Make a copy of a build cache that consists of links, without its index, in which Spack can write a
# new index. CACHE: the build cache. COPY: directory to make.
set -euo pipefail

rm -rf "${COPY}"
mkdir -p "$(dirname "${COPY}")"
cp -rs "${CACHE}" "${COPY}"
rm -rf "${COPY}/v3/manifests/index"
