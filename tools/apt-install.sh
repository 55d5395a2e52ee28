#!/bin/bash
# Installs those of the Debian packages that are missing, as root or through sudo(8).
#
# usage: apt-install.sh PACKAGE...
set -euo pipefail

missing=()
for package; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=unknown
    [[ $state == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if (($(id -u) != 0)); then
    # It would drop the proxies, without which there may be no network.
    as_root=(sudo '--preserve-env=http_proxy,https_proxy,ftp_proxy,no_proxy')
fi
if ! command -v apt-get >/dev/null || ! command -v "${as_root[0]:-true}" >/dev/null; then
    echo "Missing, and not to be installed without apt-get and root or sudo: ${missing[*]}" >&2
    exit 1
fi
scripts=$(dirname "$0")/../slurm_factory/resources/scripts
apt=("${as_root[@]}" bash "$scripts/host-apt-get.sh" 600 -qq -o Acquire::Retries=3)
echo "Installing ${missing[*]}" >&2
"${apt[@]}" update
"${apt[@]}" install --yes --no-install-recommends "${missing[@]}" > /dev/null
