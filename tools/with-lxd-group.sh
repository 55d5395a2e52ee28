#!/bin/bash
# Runs a command with the group lxd, also in a shell that is older than the user's membership. New
# files keep the user's own group if possible.
#
# usage: with-lxd-group.sh COMMAND [ARGUMENT...]
set -euo pipefail

has_lxd() {
    [[ " $("$@" 2>/dev/null) " == *" lxd "* ]]
}

user=$(id -un)
if (($(id -u) == 0)) || has_lxd id -Gn || ! has_lxd id -Gn "$user"; then
    exec "$@"
fi

# sg(1) makes lxd the primary group. A second sg gives the user's own group back: Debian 12 and
# Ubuntu 24.04 keep lxd beside it, Debian 13 drops it.
printf -v command 'exec %s' "$(printf '%q ' "$@")"
printf -v with_own_group 'exec sg %q -c ' "$(id -gn)"
if has_lxd sg lxd -c "$with_own_group 'id -Gn'"; then
    exec sg lxd -c "$with_own_group $(printf '%q' "$command")"
fi
if has_lxd sudo -n -E -u "$user" -- id -Gn; then
    # sudo(8) replaces PATH and drops PYTHONPATH even with -E.
    exec sudo -E -u "$user" -- env "PATH=$PATH" ${PYTHONPATH:+"PYTHONPATH=$PYTHONPATH"} "$@"
fi
exec sg lxd -c "$command"
