# Nothing here could stand in for a part of the package.
# usage: check-machine.sh
# shellcheck shell=bash
for program in patchelf srun slurmctld munged mpicc; do
    if command -v "${program}" > /dev/null; then
        fail "${program} is installed"
    fi
done
if dpkg-query -W -f '${Package}\n' | grep -E '^(libmunge|libpmix|libhwloc|libjwt|libopenmpi|slurm)'; then
    fail "these packages do not belong here"
fi
sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release
