#!/bin/bash
# Turns the inputs of the action into options of `slurm-factory build`, for build.sh.
#
# usage: read-inputs.sh
# INPUT_SLURM_VERSION, INPUT_TYPE, INPUT_ADDITIONAL_VARIANTS, INPUT_DEPS, INPUT_BASE, INPUT_SOURCE,
# INPUT_SHA256, INPUT_PATCHES, INPUT_VERIFY, INPUT_CACHE, INPUT_LXD: the inputs.
set -euo pipefail
# shellcheck source=tools/action/lib.sh
source "$(dirname "$0")/lib.sh"

lxd=${INPUT_LXD:-false} verify=${INPUT_VERIFY:-false} deps=${INPUT_DEPS:-system}
require_boolean lxd "$lxd"
require_boolean verify "$verify"
require_boolean cache "${INPUT_CACHE:-true}"
if [[ $lxd == false && $deps == spack ]]; then
    fail 2 "deps: spack needs lxd: true" \
        "Spack and its packages need fixed paths, which belong to the runner. Add lxd: true, or write deps: system."
fi

options=("--deps=$deps" "--base=${INPUT_BASE:-same}")
version=${INPUT_SLURM_VERSION:-}
if [[ -n ${INPUT_SOURCE:-} ]]; then
    options+=("--source=$INPUT_SOURCE")
else
    version=${version:-latest}
fi
[[ -z $version ]] || options+=("--slurm-version=$version")
[[ -z ${INPUT_SHA256:-} ]] || options+=("--sha256=$INPUT_SHA256")
case ${INPUT_TYPE:-standard} in
    standard) ;;
    minimal | gpu) options+=("--$INPUT_TYPE") ;;
    *) fail 2 "The input type is not valid: $INPUT_TYPE" "Write standard, minimal or gpu." ;;
esac
[[ -z ${INPUT_ADDITIONAL_VARIANTS:-} ]] ||
    options+=("--additional-variants=$INPUT_ADDITIONAL_VARIANTS")
while IFS= read -r patch; do
    # Blanks around the name are those of YAML.
    patch=${patch#"${patch%%[![:space:]]*}"}
    patch=${patch%"${patch##*[![:space:]]}"}
    [[ -z $patch ]] || options+=("--patch=$patch")
done <<< "${INPUT_PATCHES:-}"
[[ $lxd == true ]] || options+=(--destructive-mode)
[[ $verify == false ]] || options+=(--verify)

printf '%s\0' "${options[@]}" > "$OPTIONS_FILE"
