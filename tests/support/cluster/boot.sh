# Wait until the instance has booted.
# usage: boot.sh
# shellcheck shell=bash
booted() { systemctl is-system-running | grep -qE 'running|degraded'; }
wait_for 60 "the boot" booted
