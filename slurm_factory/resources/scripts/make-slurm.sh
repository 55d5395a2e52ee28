#!/usr/bin/env bash
# Compile Slurm, and the contribs that a package contains. SOURCE: configured source. JOBS: number
# of parallel compilers. PREFIX: configured prefix. WITH_PAM: yes for the PAM modules. WITH_PERL: yes
# for the API for Perl. LDFLAGS: of the linker. MAKE_ARGUMENTS: one a line. The first line says how
# many files there are to compile.
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
libraries=(contribs/pmi contribs/pmi2 contribs/nss_slurm)
[[ ${WITH_PAM} != yes ]] || libraries+=(contribs/pam contribs/pam_slurm_adopt)
for directory in src "${libraries[@]}"; do
    [[ ! -f ${directory}/Makefile ]] || objects_below "${directory}"
done | awk '{ sum += $1 } END { print "Files to compile: " sum + 0 }' || true

make -j "${JOBS}" "${arguments[@]}" -C src
for library in "${libraries[@]}"; do
    if [[ -d ${library} ]]; then
        make -j "${JOBS}" "${arguments[@]}" -C "${library}" PAM_DIR="${PREFIX}/lib/security"
    fi
done
if [[ ${WITH_PERL} == yes ]]; then
    # Not in parallel: MakeMaker's Makefile does not say which files have to be made first. Perl has all
    # symbols when it loads a module, unlike the programs that load Slurm's plugins.
    make "${arguments[@]}" LDFLAGS="${LDFLAGS} -Wl,-z,now" -C contribs/perlapi
fi
