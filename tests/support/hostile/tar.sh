#!/usr/bin/env bash
# A tar of one's own, which sends a member outside the directory.
set -euo pipefail

mkdir -p /usr/local/bin
cat > /usr/local/bin/tar << 'TAR'
#!/bin/sh
cd /tmp
echo evil > evil
exec /bin/tar --create --format=ustar --absolute-names --transform='s,^,../../../../tmp/,' evil
TAR
chmod 755 /usr/local/bin/tar
