# Unpack a tarball.
# usage: unpack.sh TARBALL DIRECTORY
# shellcheck shell=bash
mkdir -p "$2"
tar -xzf "$1" -C "$2" --no-same-owner
