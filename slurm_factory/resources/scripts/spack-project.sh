#!/usr/bin/env bash
# Copy the project to the directory where Spack uses it. SOURCE: its files. PROJECT: directory to
# make.
# INDEX: the index of Spack's package recipes that came with the base. MISC: the one that Spack
# uses.
set -euo pipefail

rm -rf "${PROJECT}"
mkdir -p "$(dirname "${PROJECT}")" "${MISC}"
cp -r "${SOURCE}" "${PROJECT}"
# Without it, the first command would import every package recipe, which takes two minutes.
[[ ! -d ${INDEX} ]] || cp -an "${INDEX}/." "${MISC}/"
