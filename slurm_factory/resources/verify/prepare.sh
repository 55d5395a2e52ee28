# Make a fresh Debian or Ubuntu ready to receive a package: the database, the users, the compiler and
# the module systems that a site has, and nothing that could stand in for a part of the package.
# PACKAGES: names. REACH: host that must resolve. MODULE_SYSTEMS: script that installs them.
# shellcheck shell=bash
export DEBIAN_FRONTEND=noninteractive

resolves() { getent hosts "${REACH}"; }
wait_for "${REACH} to be resolved" resolves

cat > /etc/apt/apt.conf.d/90verify << 'CONF'
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

# Adds a user unless there is one. add NAME OPTIONS…
add() { id "$1" > /dev/null 2>&1 || useradd "${@:2}" "$1"; }
for user in munge slurm slurmrest; do
    add "${user}" --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin
done
add alice --create-home --user-group --shell /bin/bash
systemctl disable --now unattended-upgrades apt-daily.timer apt-daily-upgrade.timer mariadb \
    2> /dev/null || true
sync
