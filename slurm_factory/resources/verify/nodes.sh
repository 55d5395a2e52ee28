# Make the machines of the cluster.
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
make_bridge "${bridge}" "${head}"

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
    make_machine "${machine}" "${bridge}" "10.253.77.${number}"
    for directory in /run/slurm /run/slurmd /var/spool/slurmd; do
        at "${machine}" mount -t tmpfs -o mode=755 tmpfs "${directory}"
    done
    at "${machine}" mount -t tmpfs -o mode=1777 tmpfs /tmp
done
for each in "${names[@]}"; do
    echo "${each#* } ${each% *}"
done >> "${STATE}/hosts"
touch "${STATE}/up"
