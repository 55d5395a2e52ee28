#!/bin/bash
# Appends a line to a file of this machine unless the file has it.
# Usage: host-append-line.sh LINE FILE
set -euo pipefail

line=$1
file=$2

if grep -qxF -e "$line" "$file" 2>/dev/null; then
    exit 0
fi
if [[ -s $file && -n $(tail -c 1 "$file") ]]; then
    echo >>"$file"
fi
printf '%s\n' "$line" >>"$file"
