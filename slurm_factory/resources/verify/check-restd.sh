# slurmrestd answers over its socket and, with a token, over TCP: controller and database.
# usage: check-restd.sh TREE
# shellcheck shell=bash
tree=$1
version=$(rest_version_of "${tree}")
token=$(as alice "${tree}/bin/scontrol" token lifespan=600)
# Over the socket too: 23.x asks the database for everything, and takes no other proof there.
ask() {
    local user=$1
    shift
    as "${user}" /usr/bin/curl -sS --fail --max-time "${LIMIT}" -H "X-SLURM-USER-NAME: alice" \
        -H "X-SLURM-USER-TOKEN: ${token#SLURM_JWT=}" "$@"
}
get() { ask alice "http://127.0.0.1:6820/$1"; }

ask slurmrest --unix-socket /run/slurmrestd/socket "http://localhost/slurm/${version}/ping" \
    > /tmp/ping.json || fail "$(cat /tmp/ping.json)"
grep -q '"pings"' /tmp/ping.json || fail "$(cat /tmp/ping.json)"
get "slurm/${version}/nodes" > /tmp/nodes.json || fail "$(cat /tmp/nodes.json)"
grep -q "\"name\": *\"node1\"" /tmp/nodes.json || fail "$(cat /tmp/nodes.json)"
get "slurmdb/${version}/clusters" > /tmp/clusters.json || fail "$(cat /tmp/clusters.json)"
grep -q '"name": *"live"' /tmp/clusters.json || fail "$(cat /tmp/clusters.json)"
token=SLURM_JWT=wrong
if get "slurm/${version}/nodes" > /dev/null; then
    fail "slurmrestd took a wrong token"
fi
echo "${version}: ping, nodes, clusters"
