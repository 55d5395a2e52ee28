#!/usr/bin/env bash
# Make a machine that has the packages of a build like a runner of GitHub: a user with sudo, and the
# repository in the directory of actions.
#
# usage: become-runner.sh TARBALL HOME ACTION
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
tarball=$1 home=$2 action=$3

systemctl is-system-running --wait > /dev/null || true
apt-get -q update
apt-get -qy install --no-install-recommends python3 python3-venv sudo
useradd --create-home --home-dir "$home" --user-group --shell /bin/bash runner
echo 'runner ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/runner
cp /bin/bash "$home/Runner.Worker"
install -d -o runner -g runner /srv/caches /srv/artifacts
mkdir -p "$action" "$home/work/_temp" "$home/work/project/project"
tar -xf "$tarball" -C "$action"
chown -R runner:runner "$home"
