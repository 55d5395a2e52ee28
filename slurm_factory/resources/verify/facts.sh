# Print the host name of the machine and its number of CPUs.
# usage: facts.sh
# shellcheck shell=bash
echo "$(hostname) $(nproc)"
