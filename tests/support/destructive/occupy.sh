#!/usr/bin/env bash
# Put something where Slurm is often installed, and remember the time. Waits for the machine first.
set -euo pipefail

systemctl is-system-running --wait > /dev/null || true
mkdir -p /opt/slurm/software/bin
echo 'of somebody else' > /opt/slurm/software/bin/srun
sleep 0.05
touch /root/occupied
