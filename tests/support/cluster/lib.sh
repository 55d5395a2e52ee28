# Shared by the scripts beside it; each is sent to the instance with this text before it.
# shellcheck shell=bash
set -euo pipefail
cd /tmp

fail() {
    echo "$*" >&2
    exit 1
}

# Seconds after which a thing is taken to have failed. Tests run on busy machines too: everything
# that waits for less would fail there.
LIMIT=600

# Waits until a command succeeds. wait_for WHAT COMMAND…
wait_for() {
    local deadline=$((SECONDS + LIMIT)) what=$1
    shift
    until "$@" > /dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "timed out waiting for ${what}"
        sleep 0.1
    done
}

# Runs a command as a user, with nothing in its environment. as USER COMMAND…
as() {
    local user=$1
    shift
    setpriv --reuid="${user}" --regid="${user}" --init-groups env -i "$@"
}

# The release in a tree, such as 24.11.5.
release_of() {
    sed -n 's/.*"release": *"\([^"]*\)".*/\1/p' "$1/share/slurm-factory.json"
}

# Newest REST version of a tree, such as v0.0.42.
rest_version_of() {
    find "$1/lib/slurm" -name 'data_parser_v*.so' -printf '%f\n' | sort | tail -1 |
        sed 's/^data_parser_//; s/\.so$//; s/_/./g'
}

# Whether a tree has a plugin. has TREE PLUGIN
has() { [[ -e $1/lib/slurm/$2.so ]]; }

# Whether a tree was built to forward X11.
has_x11() { ! grep -q 'X11 forwarding not built in' "$1/lib/slurm/libslurmfull.so"; }

is_completed() {
    if has "$1" accounting_storage_mysql; then
        as alice "$1/bin/sacct" -nX -j "$2" -o State%20 | grep -qw COMPLETED
    else
        as alice "$1/bin/scontrol" show job "$2" | grep -qw JobState=COMPLETED
    fi
}

# Waits until a job is COMPLETED, in the accounting where the tree has any. accounted TREE JOB
accounted() {
    wait_for "job $2 to be COMPLETED" is_completed "$1" "$2"
    if has "$1" accounting_storage_mysql; then
        as alice "$1/bin/sacct" -nX -j "$2" -o JobID,JobName%20,State,ExitCode,NodeList
    else
        echo "$2 COMPLETED, without accounting"
    fi
}
