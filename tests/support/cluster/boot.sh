# Wait until the instance has booted.
# usage: boot.sh
# shellcheck shell=bash
booted() { systemctl is-system-running | grep -qE 'running|degraded'; }
wait_for "the boot" booted
