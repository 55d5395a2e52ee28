#!/usr/bin/env bash
# Install the rest of the distribution's Python, of which a base has the smallest part only.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

systemctl is-system-running --wait > /dev/null || true
apt-get -q update
apt-get -qy install python3
