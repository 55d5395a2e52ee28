#!/bin/bash
# Runs Ceph's S3 gateway on a storage cluster of one monitor and one store in memory, with a user
# `test` whose secret key is `secret`. Ends with its parent's SIGTERM, and ends all three then.
#
# usage: s3.sh DIRECTORY PORT PORT-OF-THE-MONITOR
set -euo pipefail

directory=$1 port=$2 monitor=$3
me=$(id -un)
mkdir -p "$directory"/{mon,osd,rgw,run}
# Also in ceph.conf: a store that asks before it has the map of the monitors is refused otherwise.
fsid=$(cat /proc/sys/kernel/random/uuid)
sed -e "s|@FSID@|$fsid|g; s|@DIRECTORY@|$directory|g; s|@PORT@|$port|g; s|@MONITOR@|$monitor|g" \
    "$(dirname "$0")/ceph.conf" > "$directory/ceph.conf"
export CEPH_CONF="$directory/ceph.conf"

started=()
end() {
    kill "${started[@]}" || true
    wait
}
trap end EXIT
trap exit TERM INT
start() {
    "$@" --foreground --setuser "$me" --setgroup "$(id -gn)" &
    started+=($!)
}

monmaptool --create --fsid "$fsid" \
    --addv a "[v1:127.0.0.1:$monitor]" "$directory/monmap"
ceph-mon --mkfs --id a --monmap "$directory/monmap"
start ceph-mon --id a
uuid=$(cat /proc/sys/kernel/random/uuid)
ceph --connect-timeout 60 osd new "$uuid"
ceph-osd --id 0 --mkfs --osd-uuid "$uuid"
start ceph-osd --id 0
start radosgw --name client.rgw
radosgw-admin --name client.admin user create --uid test --display-name test \
    --access-key test --secret-key secret
echo ready > "$directory/ready"
wait -n
