# salloc gives a command an allocation, in which steps run.
# usage: check-salloc.sh TREE
# shellcheck shell=bash
tree=$1
said=$(as alice timeout "${LIMIT}" "${tree}/bin/salloc" --nodes=2 --ntasks=4 --overcommit \
    "${tree}/bin/srun" --overcommit /bin/hostname 2> /tmp/salloc.err | sort | uniq -c | tr -s ' ')
[[ ${said} == $' 2 node1\n 2 node2' ]] || fail "${said} $(cat /tmp/salloc.err)"
grep -q 'Granted job allocation' /tmp/salloc.err || fail "$(cat /tmp/salloc.err)"
grep 'Granted' /tmp/salloc.err
