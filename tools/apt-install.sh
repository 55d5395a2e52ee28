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
if ! command -v apt-get >/dev/null; then
    echo "Missing, and there is no apt-get to install them: ${missing[*]}" >&2
    exit 1
fi
# Where nobody can answer, a sudo(8) that asks for a password is of no use.
may_become_root() {
    ((${#as_root[@]} == 0)) || { command -v sudo && { [[ -t 0 ]] || sudo -n true; }; } &>/dev/null
}
if ! may_become_root; then
    echo "Missing, and this user may not become root. Have an administrator run:" \
        "apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
scripts=$(dirname "$0")/../slurm_factory/resources/scripts
apt=("${as_root[@]}" bash "$scripts/host-apt-get.sh" 600 -qq -o Acquire::Retries=3)
echo "Installing ${missing[*]}" >&2
"${apt[@]}" update
"${apt[@]}" install --yes --no-install-recommends "${missing[@]}" > /dev/null
