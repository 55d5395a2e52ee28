# Move a tree while no daemon runs.
# usage: move.sh FROM TO
# shellcheck shell=bash
mkdir -p "$(dirname "$2")"
mv "$1" "$2"
[[ ! -e $1 ]]
