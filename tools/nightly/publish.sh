#!/bin/bash
# Publishes the finished packages of a series to the store for everybody, where log-in.sh has found a key.
#
# usage: publish.sh SERIES REGISTRY
set -euo pipefail
series=$1 registry=$2

[[ -n ${SLURM_FACTORY_SIGN_KEY:-} ]] || exit 0
mapfile -d '' packages < <(find ~/.slurm-factory/builds/"$series" -name '*-manifest.json' -print0 | sort -z)
((${#packages[@]}))
.venv/bin/slurm-factory publish --keep 3 "${packages[@]}" "oci://$registry/${GITHUB_REPOSITORY_OWNER,,}/packages"
