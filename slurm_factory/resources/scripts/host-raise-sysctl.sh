#!/bin/bash
# Sets a kernel parameter now and for every later boot; sysctl(8) may not be installed.
# Usage: host-raise-sysctl.sh KEY VALUE FILE
set -euo pipefail

key=$1
value=$2
file=$3

mkdir -p "$(dirname "$file")"
printf '%s = %s\n' "$key" "$value" >"$file"
echo "$value" >"/proc/sys/${key//.//}"
