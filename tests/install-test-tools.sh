#!/bin/bash
# Installs the tools that the tests need beside Python. Without root and sudo it lists the missing
# packages, and the tests that need them are skipped.
#
# usage: install-test-tools.sh DIRECTORY-FOR-MODULE-SYSTEMS
set -euo pipefail

here=$(dirname "$0")
modules=$1

"$here/../tools/apt-install.sh" binutils fish g++ gcc gnupg gpgv libc6-dev man-db patch \
    pkg-config lua5.3 lua-filesystem lua-json lua-posix lua-term tcl8.6 zsh ||
    echo "Tests that need these packages will be skipped." >&2

# Ceph's S3 gateway, for stores. Nothing of it starts by itself.
"$here/../tools/apt-install.sh" ceph-common ceph-mon ceph-osd radosgw ||
    echo "Tests with an S3 server will be skipped." >&2

# Unpacked, not installed: its package starts a registry that the network can reach.
registry=$(dirname "$modules")/docker-registry
if [[ ! -d $registry ]]; then
    mkdir -p "$registry.new"
    # As root, apt would download as another user, who cannot write there.
    if (cd "$registry.new" && apt-get -qq -o APT::Sandbox::User=root download docker-registry); then
        dpkg -x "$registry.new"/*.deb "$registry.new"
        mv "$registry.new" "$registry"
    else
        rm -rf "$registry.new"
        echo "Tests with an OCI registry will be skipped." >&2
    fi
fi

if [[ ! -d $modules ]]; then
    "$here/../slurm_factory/resources/verify/install-module-systems.sh" "$modules" ||
        echo "Tests under Lmod and Environment Modules will be skipped." >&2
fi
