# slurmctld and slurmd speak TLS with certificates of the cluster, and nothing else.
# usage: check-tls.sh TREE
# shellcheck shell=bash
tree=$1
for address in "$(hostname):6817" node1:6818; do
    said=$(openssl s_client -connect "${address}" -CAfile /etc/slurm/ca_cert.pem \
        -verify_return_error -brief < /dev/null 2>&1) || fail "${address}: ${said}"
    grep -q 'Verification: OK' <<< "${said}" || fail "${address}: ${said}"
done
sed '/^TLSType/d' /etc/slurm/slurm.conf > /tmp/plain.conf
chmod 644 /tmp/plain.conf
if as alice SLURM_CONF=/tmp/plain.conf timeout "${LIMIT}" "${tree}/bin/scontrol" ping | grep -q 'is UP'; then
    fail "slurmctld answered without TLS"
fi
as alice "${tree}/bin/scontrol" ping | grep -q 'is UP' || fail "slurmctld does not answer"
grep '^Protocol\|^Ciphersuite' <<< "${said}" | tr '\n' ' '
