#!/usr/bin/env bash
# Copy shared libraries of the distribution, with the facts about their packages.
# SONAMES: one a line. OUT: directory; OUT/libraries.tsv gets a line for each that was found:
# soname, path, package, version, architecture, source package. ARCHITECTURE: that of the libraries,
# as uname(1) names it. TRIPLET: its name in the directories of a machine of another one.
set -euo pipefail

mkdir -p "${OUT}/lib" "${OUT}/licenses"
: > "${OUT}/libraries.tsv"

# Lines that begin with a soname and end with a path.
if [[ ${ARCHITECTURE} != "$(uname -m)" ]]; then
    # ldconfig leaves out libraries of other machines.
    cache=$(find "/usr/lib/${TRIPLET}/" -maxdepth 1 -name 'lib*.so.*' -printf '%f %p\n')
else
    # ldconfig's name for the machine's own class (glibc, elf/cache.c); it also lists i386 libraries.
    case ${ARCHITECTURE} in
        x86_64) class=libc6,x86-64 ;;
        aarch64) class=libc6,AArch64 ;;
        riscv64) class=libc6,double-float ;;
        *) class=libc6,64bit ;;
    esac
    # No entry with a hwcap after the class: those need newer processors than a package may require.
    cache=$(ldconfig -p | awk -v class="(${class}" 'index($0, class ")") || index($0, class ", OS ABI")')
fi

declare -A path_of package_of
while read -r soname; do
    path=$(awk -v name="${soname}" '$1 == name { print $NF; exit }' <<< "${cache}")
    if [[ -n ${path} ]]; then
        path_of[${soname}]=$(readlink -f "${path}")
    fi
done <<< "${SONAMES}"
[[ ${#path_of[@]} -gt 0 ]] || exit 0

# One query for all, because each reads the file lists of every package. Packages record paths from
# before or after /lib became a link to /usr/lib.
while IFS= read -r line; do
    package_of[${line##*: }]=${line%%: *}
done < <(dpkg-query -S "${path_of[@]}" "${path_of[@]#/usr}" 2> /dev/null || true)

for soname in "${!path_of[@]}"; do
    path=${path_of[${soname}]}
    package=${package_of[${path}]:-${package_of[${path#/usr}]:-}}
    if [[ -z ${package} ]]; then
        echo "E: ${path} does not belong to a package" >&2
        exit 1
    fi
    cp "${path}" "${OUT}/lib/${soname}"
    about=$(dpkg-query -W -f '${Version}\t${Architecture}\t${source:Package}' "${package}")
    name=${package%%:*}
    if [[ ! -e ${OUT}/licenses/${name} ]]; then
        cp -L "/usr/share/doc/${name}/copyright" "${OUT}/licenses/${name}"
    fi
    printf '%s\t%s\t%s\t%s\n' "${soname}" "${path}" "${name}" "${about}" >> "${OUT}/libraries.tsv"
done
