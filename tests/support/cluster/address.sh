# Print the instance's address on the bridge, once it has one.
# usage: address.sh
# shellcheck shell=bash
address() { ip -4 -o addr show scope global | awk '{ sub("/.*", "", $4); print $4; exit }' | grep .; }
wait_for "an address" address
address
