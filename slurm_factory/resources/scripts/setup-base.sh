#!/usr/bin/env bash
# Install the packages that builds need in a base instance.
# PACKAGES: names, separated by spaces. SOURCES_LIST: lines for apt; empty: keep the image's own.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

cat > /etc/apt/apt.conf.d/90slurm-factory <<'CONF'
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
Acquire::Retries "3";
DPkg::Options { "--force-unsafe-io"; };
CONF

if [[ -n ${SOURCES_LIST} ]]; then
    rm -f /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list
    printf '%s\n' "${SOURCES_LIST}" > /etc/apt/sources.list
fi

# Without this, apt cannot reach an archive over https behind a proxy with its own CA.
if command -v update-ca-certificates > /dev/null; then
    update-ca-certificates
fi

apt-get update
apt-get -y dist-upgrade
# shellcheck disable=SC2086 # a list of names
apt-get -y install ${PACKAGES}
update-ca-certificates
apt-get clean
