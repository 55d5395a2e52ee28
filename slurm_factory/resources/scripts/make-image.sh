#!/usr/bin/env bash
# Make an LXD image (metadata.tar.gz and rootfs.tar in the current directory) from an archive.
# ARCHITECTURE DEBIAN_ARCHITECTURE DISTRIBUTION CODENAME DESCRIPTION KEYRING SOURCES_LIST
set -euo pipefail

if ! command -v mmdebstrap > /dev/null; then
    echo "mmdebstrap is not installed"
    exit 1
fi

cat > metadata.yaml <<META
architecture: ${ARCHITECTURE}
creation_date: $(date +%s)
properties:
  description: ${DESCRIPTION}
  os: ${DISTRIBUTION}
  release: ${CODENAME}
META
tar -czf metadata.tar.gz metadata.yaml

cat > eth0.network <<'NETWORK'
[Match]
Name=eth0
[Network]
DHCP=ipv4
NETWORK

resolver=systemd-resolved,
case "${CODENAME}" in
    bullseye | jammy) resolver= ;; # It is a part of systemd there.
esac

# minbase has no DHCP client; networkd is part of systemd.
# exec: an interrupt then waits for mmdebstrap itself, which removes its mounts and directory.
# shellcheck disable=SC2016 # mmdebstrap's hooks expand $1 themselves
exec mmdebstrap --variant=minbase --format=tar \
    --architectures="${DEBIAN_ARCHITECTURE}" --keyring="${KEYRING}" \
    --include="apt,systemd,systemd-sysv,${resolver}libpam-systemd,dbus,udev,iproute2,netbase,ca-certificates,hostname" \
    --customize-hook='copy-in eth0.network /etc/systemd/network' \
    --customize-hook='chroot "$1" systemctl enable systemd-networkd systemd-resolved' \
    --customize-hook='rm -f "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/machine-id' \
    --customize-hook='touch "$1"/etc/machine-id; ln -s /run/systemd/resolve/resolv.conf "$1"/etc/resolv.conf' \
    "${CODENAME}" rootfs.tar - <<< "${SOURCES_LIST}"
