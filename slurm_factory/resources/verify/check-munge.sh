# mungekey has made the key of this cluster; remunge measures how many credentials munged makes.
# usage: check-munge.sh TREE
# shellcheck shell=bash
tree=$1
as alice "${tree}/bin/remunge" --num-creds=10 2>&1 | sed -n "s/^.*\(Processed .*\)/\1/p"
