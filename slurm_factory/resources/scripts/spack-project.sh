#!/usr/bin/env bash
# Put the project where Spack works on it. SOURCE: its files. PROJECT: directory to make.
# INDEX: the index of Spack's recipes that came with the base. MISC: the one that Spack uses.
set -euo pipefail

rm -rf "${PROJECT}"
mkdir -p "$(dirname "${PROJECT}")" "${MISC}"
cp -r "${SOURCE}" "${PROJECT}"
# Without it the first command would import every recipe, which takes two minutes.
[[ ! -d ${INDEX} ]] || cp -an "${INDEX}/." "${MISC}/"
