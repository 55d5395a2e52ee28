#!/usr/bin/env bash
# A program in the tree that runs as its owner.
set -euo pipefail

chmod 4755 "${TREE}/sbin/slurmd"
