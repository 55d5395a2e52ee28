#!/bin/bash
# Installs the tools that the tests need beside Python. Without root and sudo it lists the missing
# packages, and the tests that need them are skipped.
#
# usage: install-test-tools.sh DIRECTORY-FOR-MODULE-SYSTEMS
set -euo pipefail

here=$(dirname "$0")
modules=$1

"$here/../tools/apt-install.sh" binutils fish g++ gcc libc6-dev man-db patch pkg-config \
    lua5.3 lua-filesystem lua-json lua-posix lua-term tcl8.6 zsh ||
    echo "Tests that need these packages will be skipped." >&2

if [[ ! -d $modules ]]; then
    "$here/../slurm_factory/resources/verify/install-module-systems.sh" "$modules" ||
        echo "Tests under Lmod and Environment Modules will be skipped." >&2
fi
