# mungekey has made the key of this cluster; remunge measures how many credentials munged makes.
# usage: check-munge.sh TREE
# shellcheck shell=bash
tree=$1
said=$(as alice "${tree}/bin/remunge" --num-creds=10 2>&1 | sed -n 's/^.*\(Processed .*\)/\1/p')
[[ ${said} == "Processed 10 credentials"* ]] || fail "remunge: ${said}"
as alice "${tree}/bin/munge" -n | as alice "${tree}/bin/unmunge" | grep -q '^STATUS: *Success' ||
    fail "unmunge cannot read what munge has made"
echo "${said}"
