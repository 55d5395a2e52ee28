#!/usr/bin/env bash
# Make a fresh Debian instance ready to receive a package: the database, the users and the module
# systems that a site has, and nothing that could build.
# PACKAGES: names. REACH: host that must resolve. MODULE_SYSTEMS: script that installs them.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

deadline=$((SECONDS + 600))
until getent hosts "${REACH}" > /dev/null; do
    ((SECONDS < deadline)) || { echo "${REACH} cannot be resolved in the instance" >&2; exit 1; }
    sleep 0.2
done

cat > /etc/apt/apt.conf.d/90test <<'CONF'
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
Acquire::Retries "3";
DPkg::Options { "--force-unsafe-io"; };
CONF
update-ca-certificates
apt-get -q update
# shellcheck disable=SC2086 # a list of names
apt-get -qy install ${PACKAGES}
bash -c "${MODULE_SYSTEMS}" install-module-systems.sh /opt/module-systems
apt-get clean

useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin munge
useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin slurm
useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin slurmrest
useradd --create-home --shell /bin/bash alice
systemctl disable --now unattended-upgrades apt-daily.timer apt-daily-upgrade.timer 2> /dev/null || true
sync
