# The node takes jobs of this machine, whoever had to wait for whom at boot.
# usage: check-cluster.sh TREE
# shellcheck shell=bash
tree=$1
runs_a_job() { as alice timeout 60 "${tree}/bin/srun" /bin/hostname; }
wait_for "a job to run" runs_a_job
runs_a_job
