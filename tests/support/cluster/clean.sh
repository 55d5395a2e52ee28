# Make sure that nothing here could build, or stand in for a part of the package.
# usage: clean.sh
# shellcheck shell=bash
for program in cc gcc ld make pkg-config patchelf srun munged; do
    if command -v "${program}"; then
        fail "${program} is installed"
    fi
done
if dpkg-query -W -f '${Package}\n' | grep -E -- '-dev$|^(libmunge|libpmix|libhwloc|libjwt|slurm)'; then
    fail "these packages do not belong here"
fi
