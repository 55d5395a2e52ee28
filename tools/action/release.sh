#!/bin/bash
# Attaches packages to a release of the repository, which is made where it is missing.
#
# usage: release.sh DIRECTORY
# GITHUB_REPOSITORY, GH_TOKEN (gh), TAG: tag of the release
set -euo pipefail
# shellcheck source=tools/action/lib.sh
source "$(dirname "$0")/lib.sh"
directory=$1

[[ $TAG =~ ^[A-Za-z0-9][A-Za-z0-9._+/-]*$ ]] ||
    fail 2 "The input tag is not valid: $TAG" "Write a name of plain characters, such as slurm-25.11."
mapfile -d '' files < <(find "$directory" -type f -print0 | sort -z)
((${#files[@]})) || fail 1 "There are no packages" "$directory is empty."
for list in "$directory"/*.sha256; do
    (cd "$directory" && sha256sum --check --quiet "${list##*/}") ||
        fail 1 "A package is damaged" "Its checksums are not those in $list."
done
if ! gh release view "$TAG" --repo "$GITHUB_REPOSITORY" > /dev/null 2>&1; then
    gh release create "$TAG" --repo "$GITHUB_REPOSITORY" --title "$TAG" --notes "" --draft
fi
gh release upload "$TAG" --repo "$GITHUB_REPOSITORY" --clobber "${files[@]}"
gh release edit "$TAG" --repo "$GITHUB_REPOSITORY" --draft=false
