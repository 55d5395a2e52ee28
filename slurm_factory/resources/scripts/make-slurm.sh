#!/usr/bin/env bash
# Compile Slurm and its PMI libraries. SOURCE: configured source. JOBS: how many compilers at once.
# PREFIX: configured prefix. WITH_PAM: yes for pam_slurm_adopt. MAKE_ARGUMENTS: one a line.
# The first line says how many files there are to compile.
set -euo pipefail

cd "${SOURCE}"
arguments=()
[[ -z ${MAKE_ARGUMENTS} ]] || mapfile -t arguments <<< "${MAKE_ARGUMENTS}"

# Numbers of objects, a line for each directory. `make -n` would stop at libraries that are not there
# yet, and knows nothing of those in other directories.
# shellcheck disable=SC2016 # make expands
objects_below() {
    local number directory directories
    number='$(words $(sort $(foreach t,$(LTLIBRARIES) $(LIBRARIES) $(PROGRAMS),$(call objects,$(t)))))'
    read -r number directories < <(make -s -C "$1" "${arguments[@]}" list \
        --eval='objects = $($(subst -,_,$(subst .,_,$(subst /,_,$(1:$(EXEEXT)=))))_OBJECTS)' \
        --eval="list: ; @echo ${number} \$(SUBDIRS)")
    echo "${number}"
    for directory in ${directories}; do
        [[ ${directory} == . || ! -d $1/${directory} ]] || objects_below "$1/${directory}"
    done
}
directories=(src contribs/pmi contribs/pmi2)
[[ ${WITH_PAM} != yes ]] || directories+=(contribs/pam_slurm_adopt)
for directory in "${directories[@]}"; do
    [[ ! -f ${directory}/Makefile ]] || objects_below "${directory}"
done | awk '{ sum += $1 } END { print "Files to compile: " sum + 0 }'

make -j "${JOBS}" "${arguments[@]}" -C src
for library in contribs/pmi contribs/pmi2; do
    if [[ -d ${library} ]]; then
        make -j "${JOBS}" "${arguments[@]}" -C "${library}"
    fi
done
if [[ ${WITH_PAM} == yes ]]; then
    make -j "${JOBS}" "${arguments[@]}" -C contribs/pam_slurm_adopt PAM_DIR="${PREFIX}/lib/security"
fi
