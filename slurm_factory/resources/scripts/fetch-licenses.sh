#!/usr/bin/env bash
# Copy the license texts that copyright files of the distribution name. OUT: directory.
set -euo pipefail

mkdir -p "${OUT}"
[[ ! -d /usr/share/common-licenses ]] || cp -rL /usr/share/common-licenses/. "${OUT}"
