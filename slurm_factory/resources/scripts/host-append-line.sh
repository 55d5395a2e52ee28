#!/bin/bash
# Appends a line to a file of this machine unless it is there.
# Usage: host-append-line.sh LINE FILE
set -euo pipefail

line=$1
file=$2

mkdir -p "$(dirname "$file")"
if ! grep -qxF -e "$line" "$file" 2>/dev/null; then
    printf '%s\n' "$line" >>"$file"
fi
