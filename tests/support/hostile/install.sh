#!/usr/bin/env bash
# Install a toy in place of Slurm, as a recipe that somebody hostile controls may do it.
# STAGE: DESTDIR. PREFIX: configured prefix. INSTALLED: list of programs of other packages; empty.
# The attack follows, and finds its way to the tree in TREE.
set -euo pipefail

TREE="${STAGE}${PREFIX}"
mkdir -p "${TREE}"/{bin,sbin,lib/slurm,share/licenses/slurm}
echo 'int main(void) { return 0; }' | gcc -xc - -o "${TREE}/sbin/slurmd"
cp "${TREE}/sbin/slurmd" "${TREE}/bin/srun"
echo license > "${TREE}/share/licenses/slurm/LICENSE.OpenSSL"
: > "${INSTALLED}"
