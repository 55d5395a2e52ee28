#!/usr/bin/env bash
# Make the directory of the gpg with which Spack verifies signatures. GNUPG: the directory.
set -euo pipefail

mkdir -p "${GNUPG}"
chmod 700 "${GNUPG}"
# The base has no agent, which only secret keys need. gpg imports a key and still fails if it cannot
# start an agent.
echo no-autostart > "${GNUPG}/gpg.conf"
