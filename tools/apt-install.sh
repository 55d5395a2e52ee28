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
    # sudo would drop the proxies, without which there may be no network.
    as_root=(sudo '--preserve-env=http_proxy,https_proxy,ftp_proxy,no_proxy')
fi
if ! command -v apt-get >/dev/null; then
    echo "Packages are missing, and this machine has no apt-get: ${missing[*]}" >&2
    exit 1
fi
# Without a terminal, nobody can answer sudo(8) when it asks for a password.
may_become_root() {
    ((${#as_root[@]} == 0)) || { command -v sudo && { [[ -t 0 ]] || sudo -n true; }; } &>/dev/null
}
if ! may_become_root; then
    echo "Packages are missing, and this user cannot become root. Ask an administrator to run:" \
        "apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
scripts=$(dirname "$0")/../slurm_factory/resources/scripts
apt=("${as_root[@]}" bash "$scripts/host-apt-get.sh" 600 -qq -o Acquire::Retries=3)
echo "Installing ${missing[*]}" >&2
"${apt[@]}" update
"${apt[@]}" install --yes --no-install-recommends "${missing[@]}" > /dev/null
