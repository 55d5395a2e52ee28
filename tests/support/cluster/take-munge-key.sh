# Put the site's munge key in its place, as the page's scp does.
# usage: take-munge-key.sh BASE64
# shellcheck shell=bash
base64 -d <<< "$1" > /etc/munge/munge.key
chown munge:munge /etc/munge/munge.key
chmod 600 /etc/munge/munge.key
