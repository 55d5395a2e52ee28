# slurmd and commands of a machine without a configuration take it from the controller.
# usage: check-configless.sh TREE
# shellcheck shell=bash
tree=$1 last=${NODES[-1]}
if [[ -n $(at "${last}" find /etc/slurm -name '*.conf') ]]; then
    fail "${last} has a configuration"
fi
said=$(at_as "${last}" alice timeout "${LIMIT}" "${tree}/bin/srun" --nodelist="${last}" /bin/hostname)
[[ ${said} == "${last}" ]] || fail "srun on ${last}: ${said}"
echo "a job from and on ${last}, without /etc/slurm"
