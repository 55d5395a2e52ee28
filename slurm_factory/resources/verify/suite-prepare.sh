# Make a prepared instance ready to build plain Slurm and to run SchedMD's tests.
# usage: suite-prepare.sh DIRECTORY    (where cluster.sh, run-suite.py and tests.txt go)
# PACKAGES: names. REACH: host that must resolve. CLUSTER, RUNNER, TESTS: text of these files.
# shellcheck shell=bash
export DEBIAN_FRONTEND=noninteractive
directory=$1

resolves() { getent hosts "${REACH}"; }
wait_for "${REACH} to be resolved" resolves
apt-get -q update
# shellcheck disable=SC2086 # a list of names
apt-get -qy install ${PACKAGES}
systemctl disable --now munge mariadb 2> /dev/null || true

# Tests run as SlurmUser, who needs a shell and a home, and become other users by sudo.
install -d -o slurm -g slurm /var/lib/slurm
usermod --home /var/lib/slurm --shell /bin/bash slurm
id bob > /dev/null 2>&1 || useradd --create-home --user-group --shell /bin/bash bob
printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\n' slurm alice > /etc/sudoers.d/suite
chmod 0440 /etc/sudoers.d/suite
# The suite sets LANG to it.
sed -i 's/^# *\(en_US.UTF-8 UTF-8\)/\1/' /etc/locale.gen
locale-gen

mkdir -p "${directory}" /var/tmp/slurm-factory-verify
printf '%s' "${CLUSTER}" > "${directory}/cluster.sh"
printf '%s' "${RUNNER}" > "${directory}/run-suite.py"
printf '%s' "${TESTS}" > "${directory}/tests.txt"
