#!/bin/bash
# Starts a cluster of one node from a package, and sets the outputs and PATH of later steps.
#
# usage: start.sh
# INPUT_PACKAGE: tarball, manifest or directory of a package. INPUT_PREFIX: where it is unpacked.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=tools/action/lib.sh
source "$here/../tools/action/lib.sh"

# Sets `software` to the tarball of a package. find_software PACKAGE
find_software() {
    local found=("${1/%-manifest.json/-software.tar.gz}")
    if [[ -d $1 ]]; then
        mapfile -d '' found < <(find "$1" -maxdepth 1 -name '*-software.tar.gz' -print0)
        ((${#found[@]} == 1)) || fail 2 "The input package is not valid: $1" \
            "The directory has ${#found[@]} files *-software.tar.gz. Name one of them, or the directory of one package."
    fi
    software=${found[0]}
    [[ -f $software && $software == *-software.tar.gz ]] || fail 2 "The input package is not valid: $1" \
        "There is no file $software. Name a tarball *-software.tar.gz, its manifest or its directory."
}

# Ends the script unless a tarball is what the list of checksums beside it says. require_whole FILE
require_whole() {
    local name=${1##*/} directory list
    directory=$(dirname "$1")
    list=$directory/${name%-software.tar.gz}.sha256
    if [[ -f $list ]] && ! grep -F "  $name" "$list" | (cd "$directory" && sha256sum --check --quiet); then
        fail 2 "$name is damaged" "Its checksum is not that in $list. Download the package again."
    fi
}

# The process of the runner that ends with the job, which in a container of the job is out of sight.
worker_of_job() {
    local pid=$$ name
    while ((pid > 1)); do
        name=$(< "/proc/$pid/comm")
        if [[ $name == Runner.Worker ]]; then
            echo "$pid"
            return
        fi
        pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
    done
}

[[ $INPUT_PREFIX =~ ^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$ ]] ||
    fail 2 "The input prefix is not valid: $INPUT_PREFIX" "Write an absolute path of plain characters."
find_software "$INPUT_PACKAGE"
require_whole "$software"

as_root=()
(($(id -u) == 0)) || as_root=(sudo -n)
worker=$(worker_of_job)
if ! why=$("${as_root[@]}" bash "$here/start-cluster.sh" "$software" "$INPUT_PREFIX" "$worker" 2>&1); then
    fail 1 "The cluster did not start" "$why"
fi
tree=$INPUT_PREFIX/current/software
version=$("$tree/bin/sinfo" --version)
version=${version#slurm }
echo "$tree/bin" >> "$GITHUB_PATH"
printf '%s\n' "prefix=$tree" "conf=/etc/slurm/slurm.conf" "version=$version" >> "$GITHUB_OUTPUT"
printf '\n%s\n\n' "Slurm $version of $tree takes jobs on $(nproc) CPUs." |
    tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}"
