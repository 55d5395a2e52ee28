#!/bin/bash
# Puts the attestation of packages beside each of them, where slurm-factory looks for it.
#
# usage: attestation.sh DIRECTORY
# BUNDLE: the file with the attestation
set -euo pipefail
# shellcheck source=tools/action/lib.sh
source "$(dirname "$0")/lib.sh"
directory=$1

[[ -s $BUNDLE ]] || fail 1 "There is no attestation" "The file is missing or empty: $BUNDLE"
for list in "$directory"/*.sha256; do
    cp "$BUNDLE" "${list%.sha256}.sigstore.json"
done
