#!/usr/bin/env bash
# Print what was changed since occupy.sh where a build has no business.
set -euo pipefail

grep -qx 'of somebody else' /opt/slurm/software/bin/srun
find /etc /home /opt /root /srv/build /srv/build-output /usr /var/lib \
    -xdev \( -path /var/lib/systemd -o -path /root/occupied \) -prune -o \
    -newer /root/occupied -print 2> /dev/null || true
