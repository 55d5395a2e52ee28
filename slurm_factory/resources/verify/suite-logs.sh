# Print the end of what tests have said.
# usage: suite-logs.sh BYTES DIRECTORY TEST…
# shellcheck shell=bash
for test in "${@:3}"; do
    printf '\n==> %s <==\n' "${test}"
    tail -c "$1" "$2/${test}.log" || true
done
