#!/bin/bash
# Unpacks Lmod and Environment Modules for the tests of the module files. Their Debian packages
# conflict and cannot both be installed; unpacked, they work side by side and do not touch installed
# ones. They need these packages: lua5.3 lua-filesystem lua-json lua-posix lua-term tcl8.6 man-db.
#
# usage: install-module-systems.sh DIRECTORY
set -euo pipefail

directory=$(realpath -m "$1")
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT

cd "$staging"
apt-get download -qq -o APT::Sandbox::User=root lmod environment-modules
for package in lmod environment-modules; do
    dpkg-deb --extract "$package"_*.deb "$staging/unpacked"
done

lmod=usr/share/lmod/lmod/init/bash
modules=usr/share/modules/init/bash
sed -i "s#/usr/share/lmod#$directory/usr/share/lmod#g" "unpacked/$lmod"
sed -i "s#/usr/lib/[^/]*/modulecmd.tcl#$directory/usr/lib/modulecmd.tcl#g" "unpacked/$modules"

rm -rf "$directory"
mkdir -p "$(dirname "$directory")"
mv unpacked "$directory"
