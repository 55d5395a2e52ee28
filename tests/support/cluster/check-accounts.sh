# Jobs of these names are in the accounting database, completed.
# usage: check-accounts.sh TREE NAME…
# shellcheck shell=bash
tree=$1
shift
jobs() {
    "${tree}/bin/sacct" --allusers --noheader --allocations --format=JobName%20,State%20 |
        grep -wE "$(IFS='|'; echo "$*")" | tr -s ' ' | sort -u
}
all_completed() { [[ $(jobs "$@" | grep -c COMPLETED) == "$#" && $(jobs "$@" | wc -l) == "$#" ]]; }
wait_for "$* to be COMPLETED" all_completed "$@"
jobs "$@"
