#!/bin/bash
# Installs uv in its own virtual environment: distributions do not allow pip in theirs (PEP 668).
#
# usage: install-uv.sh DIRECTORY VERSION
set -euo pipefail

directory=$1
version=$2
bundle=/etc/ssl/certs/ca-certificates.crt

installed=$("$directory/bin/uv" --version 2>/dev/null) || installed=none
[[ "$installed " == "uv $version "* ]] && exit

# Debian and Ubuntu package ensurepip as python3-venv.
if ! python3 -c 'import ensurepip' 2>/dev/null; then
    "$(dirname "$0")/apt-install.sh" ca-certificates python3 python3-venv
fi
# The system's bundle also contains the CA of a proxy that inspects TLS; pip's own does not.
if [[ -z ${PIP_CERT:-} && -s $bundle ]]; then
    export PIP_CERT=$bundle
fi
python3 -m venv --clear "$directory"
"$directory/bin/pip" install --quiet --disable-pip-version-check "uv==$version"
