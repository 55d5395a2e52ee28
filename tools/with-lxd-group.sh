#!/bin/bash
# Runs a command with the group lxd, also in a shell that is older than the user's membership.
# The inner sg(1) gives the user's own group back to new files.
#
# usage: with-lxd-group.sh COMMAND [ARGUMENT...]
set -euo pipefail

has_lxd() {
    [[ " $(id -Gn "$@") " == *" lxd "* ]]
}

if ((EUID == 0)) || has_lxd || ! has_lxd "$(id -un)"; then
    exec "$@"
fi
printf -v command '%q ' "$@"
printf -v inner 'exec sg %q -c %q' "$(id -gn)" "exec $command"
exec sg lxd -c "$inner"
