# Let the job end, and see that it has run to its end.
# usage: upgrade-end.sh TREE JOB
# shellcheck shell=bash
end_waiting "$1" "$2"
