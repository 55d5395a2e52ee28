# Make the machines of the cluster: name spaces with a host name and a network of their own.
# usage: nodes.sh
# shellcheck shell=bash
head=10.253.77.1
bridge=sf-verify
mkdir -p "${STATE}" /run/munge /run/slurm /run/slurmd /var/spool/slurmd
install -d -m 0755 /var/tmp/slurm-factory-verify
if [[ -e ${STATE}/up ]]; then
    exit 0
fi
modprobe bridge 2> /dev/null || true
ip link add "${bridge}" type bridge
ip addr add "${head}/24" dev "${bridge}"
ip link set "${bridge}" up

# In place of the machine's own, which on many machines gives their name a loopback address: nodes
# would look for the controller there.
name=$(hostname)
sed "/[[:space:]]${name}\([[:space:].]\|$\)/d" /etc/hosts > "${STATE}/hosts"
mount --bind "${STATE}/hosts" /etc/hosts
names=("${name} ${head}")
number=10
for machine in "${NODES[@]}" "${LOGIN}"; do
    number=$((number + 1))
    names+=("${machine} 10.253.77.${number}")
    setsid unshare --net --uts --mount --propagation=private sleep infinity < /dev/null > /dev/null 2>&1 &
    pid=$!
    echo "${pid}" > "${STATE}/${machine}.pid"
    apart() { [[ $(readlink "/proc/${pid}/ns/mnt") != "$(readlink /proc/self/ns/mnt)" ]]; }
    wait_for "the name spaces of ${machine}" apart
    ip link add "sf-${machine}" type veth peer name eth0 netns "${pid}"
    ip link set "sf-${machine}" master "${bridge}" up
    at "${machine}" hostname "${machine}"
    at "${machine}" ip link set lo up
    at "${machine}" ip addr add "10.253.77.${number}/24" dev eth0
    at "${machine}" ip link set eth0 up
    # Its own munged: one that reads the same credential for two machines takes it for a replay.
    at "${machine}" mount -t tmpfs -o mode=755 tmpfs /run/munge
    for directory in /run/slurm /run/slurmd /var/spool/slurmd; do
        at "${machine}" mount -t tmpfs -o mode=755 tmpfs "${directory}"
    done
    at "${machine}" mount -t tmpfs -o mode=1777 tmpfs /tmp
done
for each in "${names[@]}"; do
    echo "${each#* } ${each% *}"
done >> "${STATE}/hosts"
touch "${STATE}/up"
