#!/usr/bin/env bash
# A1: links in the tree, so that the host writes what they lead to. VICTIM: file of the host.
set -euo pipefail

mkdir -p "${TREE}/share/licenses/zlib1g"
ln -s "${VICTIM}" "${TREE}/share/licenses/zlib1g/copyright"
ln -s "${VICTIM}" "${TREE}/share/slurm-factory.json"
