#!/usr/bin/env bash
# Compile Slurm and its PMI libraries. SOURCE: configured source. JOBS: how many compilers at once.
# PREFIX: configured prefix. WITH_PAM: yes for pam_slurm_adopt. MAKE_ARGUMENTS: one a line.
set -euo pipefail

cd "${SOURCE}"
arguments=()
[[ -z ${MAKE_ARGUMENTS} ]] || mapfile -t arguments <<< "${MAKE_ARGUMENTS}"
make -j "${JOBS}" "${arguments[@]}" -C src
for library in contribs/pmi contribs/pmi2; do
    if [[ -d ${library} ]]; then
        make -j "${JOBS}" "${arguments[@]}" -C "${library}"
    fi
done
if [[ ${WITH_PAM} == yes ]]; then
    make -j "${JOBS}" "${arguments[@]}" -C contribs/pam_slurm_adopt PAM_DIR="${PREFIX}/lib/security"
fi
