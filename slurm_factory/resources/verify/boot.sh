# Wait until the instance has booted.
# usage: boot.sh
# shellcheck shell=bash
booted() { [[ $(systemctl is-system-running) =~ running|degraded ]]; }
wait_for "the boot" booted
# The udevadm of Debian 11 gives up at the first device that a container must not touch, and networkd
# waits for the network's.
udevadm trigger --subsystem-match=net || true
