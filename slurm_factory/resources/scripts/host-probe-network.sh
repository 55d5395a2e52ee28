#!/bin/bash
# Prints what an instance sees of the network, as KEY=VALUE lines. Runs in the instance.
# Usage: host-probe-network.sh SECONDS_TO_WAIT_FOR_AN_ADDRESS <ADDITIONAL_CA_CERTIFICATES
set -euo pipefail

wait_seconds=$1
bundle=/root/ca-bundle.pem  # /tmp is emptied during boot
cat - /etc/ssl/certs/ca-certificates.crt >"$bundle" 2>/dev/null || true

address() {
    ip -4 -oneline address show scope global | awk '{ print $4; exit }'
}

wait_for_address() {
    local limit=$((SECONDS + $1))
    while [[ -z $(address) ]] && ((SECONDS < limit)); do
        sleep 0.2
    done
    [[ -n $(address) ]]
}

# An image from mmdebstrap does not start a DHCP client by itself.
ask_for_address() {
    mkdir -p /etc/systemd/network
    printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n' >/etc/systemd/network/10-eth0.network
    systemctl enable --now systemd-networkd systemd-resolved
    networkctl reload
} >/dev/null 2>&1

booting() {
    [[ $(systemctl is-system-running 2>/dev/null) != @(running|degraded) ]]
}

while booting && ((SECONDS < wait_seconds)); do
    sleep 0.2
done
if ! wait_for_address 1 && ! systemctl --quiet is-active systemd-networkd; then
    ask_for_address || true
fi
wait_for_address "$wait_seconds" || true
echo "address=$(address)"

mirror=$(grep -rhoE '^(URIs:|deb ).*' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null \
    | grep -oE 'https?://[^] ]+' | head -n 1 || true)
: "${mirror:=http://deb.debian.org/debian}"
host=${mirror#*://}
host=${host%%[:/]*}
echo "mirror=$mirror"
echo "host=$host"

if timeout 4 getent ahostsv4 "$host" >/dev/null; then
    echo "dns=ok"
else
    echo "dns=failed"
fi

# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
release=${mirror%/}/dists/$codename/Release
if said=$(timeout 5 /usr/lib/apt/apt-helper -o Acquire::Retries=0 -o "Acquire::https::CAInfo=$bundle" \
    download-file "$release" /root/Release 2>&1); then
    echo "archive=ok"
else
    echo "archive=$(tail -n 1 <<<"$said")"
fi

# `openssl` comes with ca-certificates; a small image has no other TLS client.
if ! command -v openssl >/dev/null; then
    echo "tls=untested"
    exit 0
fi
said=$(timeout 4 openssl s_client -connect "$host:443" -servername "$host" \
    -verify_hostname "$host" -CAfile "$bundle" </dev/null 2>&1 || true)
case $said in
    *"Verify return code: 0 "*) echo "tls=ok" ;;
    *"BEGIN CERTIFICATE"*) echo "tls=untrusted" ;;
    *) echo "tls=untested" ;;
esac
