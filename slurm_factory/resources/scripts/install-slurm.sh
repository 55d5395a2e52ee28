#!/usr/bin/env bash
# Install Slurm into a stage. SOURCE: compiled source. STAGE: DESTDIR. PREFIX: configured prefix.
# JOBS: number of parallel processes. WITH_PAM: yes for the PAM modules. WITH_PERL: yes for the API
# for Perl, seff and smail. MAKE_ARGUMENTS: one a line.
# INSTALLED: gets a line for each program that is not Slurm's own: path in the tree, package,
# version, architecture, source package.
set -euo pipefail

cd "${SOURCE}"
mapfile -t arguments <<< "${MAKE_ARGUMENTS}"
# libtool would link every plugin a second time, only to write a run path that relocation replaces.
# Keep the old time: with a newer one, make would link everything again.
find src contribs -name '*.la' | while read -r library; do
    sed 's/^relink_command=.*/relink_command=""/' "${library}" > "${library}.new"
    touch -r "${library}" "${library}.new"
    mv "${library}.new" "${library}"
done

tree="${STAGE}${PREFIX}"
make -s "${arguments[@]}" install-pkgincludeHEADERS DESTDIR="${STAGE}"

# Automake installs the 150 directories one after the other, on one core.
# shellcheck disable=SC2016 # make expands SUBDIRS
directories_of() {
    local directory
    for directory in $(make -s -C "$1" --eval='list: ; @echo $(SUBDIRS)' list); do
        [[ ${directory} == . ]] || echo "$1/${directory}"
    done
}
{
    directories_of src | grep -vx src/plugins
    directories_of src/plugins
    printf '%s\n' doc/man etc contribs/pmi contribs/pmi2
} | while read -r directory; do
    [[ ! -d ${directory} ]] || echo "${directory}"
done | xargs -P "${JOBS}" -I '{}' make -s "${arguments[@]}" -C '{}' install DESTDIR="${STAGE}"
modules=(contribs/nss_slurm)
[[ ${WITH_PAM} != yes ]] || modules+=(contribs/pam contribs/pam_slurm_adopt)
for module in "${modules[@]}"; do
    make -s "${arguments[@]}" -C "${module}" install DESTDIR="${STAGE}" PAM_DIR="${PREFIX}/lib/security"
done

if [[ ${WITH_PERL} == yes ]]; then
    make -s "${arguments[@]}" -C contribs/perlapi install DESTDIR="${STAGE}"
    # The directory has the release of Perl in its name, which nobody could know by heart.
    site=$(dirname "$(find "${tree}" -name Slurm.pm)")
    mv "${site}" "${tree}/lib/perl5"
    find "${tree}" \( -name .packlist -o -name perllocal.pod \) -delete
    chmod -R u+w "${tree}/lib/perl5"
    mkdir -p "${tree}/bin"
    # shellcheck disable=SC2016 # Perl and the shell of the machine expand them
    sed 's|^use lib .*|use FindBin;\nuse lib "$FindBin::RealBin/../lib/perl5";|' contribs/seff/seff \
        > "${tree}/bin/seff"
    # shellcheck disable=SC2016
    sed 's|^SEFF=.*|SEFF=$(dirname "$(readlink -f "$0")")/seff|; s|\$SEFF |"$SEFF" |' \
        contribs/seff/smail > "${tree}/bin/smail"
    chmod 755 "${tree}/bin/seff" "${tree}/bin/smail"
fi
# In a separate directory, so that adding it to ld.so.conf for NSS adds no other library of the
# tree.
mkdir -p "${tree}/lib/nss"
mv "${tree}/lib/libnss_slurm.so.2" "${tree}/lib/nss/"
mkdir -p "${tree}/bin" "${tree}/sbin" "${tree}/share/licenses/slurm"
: > "${INSTALLED}"
for program in bin/munge bin/remunge bin/unmunge sbin/munged sbin/mungekey; do
    path=$(readlink -f "$(command -v "${program##*/}")")
    if ! owner=$(dpkg-query -S "${path}" 2> /dev/null); then
        echo "E: ${path} does not belong to a package" >&2
        exit 1
    fi
    about=$(dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${source:Package}' "${owner%%: *}")
    cp "${path}" "${tree}/${program}"
    printf '%s\t%s\n' "${program}" "${about}" >> "${INSTALLED}"
done
cp COPYING DISCLAIMER LICENSE.OpenSSL "${tree}/share/licenses/slurm/"
mkdir -p "${tree}/share/licenses/munge"
cp /usr/share/doc/munge/copyright "${tree}/share/licenses/munge/"

# bash-completion looks for a file with the name of each command.
completions="${tree}/share/bash-completion/completions"
mkdir -p "${completions}"
install -m 644 contribs/slurm_completion_help/slurm_completion.sh "${completions}/"
sed -n 's/^complete .* \([a-z]*\)$/\1/p' "${completions}/slurm_completion.sh" | while read -r command; do
    if [[ -e ${tree}/bin/${command} || -e ${tree}/sbin/${command} ]]; then
        ln -sf slurm_completion.sh "${completions}/${command}"
    fi
done

# Only the promised files; the rest is HTML documentation and build files.
find "${tree}" -mindepth 1 -maxdepth 1 \
    ! -name bin ! -name sbin ! -name lib ! -name include ! -name share -exec rm -rf {} +
find "${tree}/share" -mindepth 1 -maxdepth 1 ! -name man ! -name licenses ! -name bash-completion \
    -exec rm -rf {} +
