#!/usr/bin/env bash
# A2, A4, A5: everything that an instance could do to the host and to later builds.
# CACHE: the cache directory. Each line says what succeeded.
set -uo pipefail

try() {
    if "$@" 2> /dev/null; then echo "succeeded: $*"; fi
}
write() { echo '* evil *' > "$1"; }

for name in builds images logs spack-locks configure; do
    try ls "${CACHE}/${name}"
done
for directory in "${CACHE}"/spack-sourcecache "${CACHE}"/work/*/input; do
    try write "${directory}/evil"
    try rm -rf "${directory}"
    try mount -o remount,rw "${directory}"
done
try write /proc/sys/kernel/core_pattern
try write /proc/sysrq-trigger
try mknod /root/disk b 254 0

# What it may write to: only builds of the same sources see it.
for compiler_cache in "${CACHE}"/ccache/*; do
    echo 'compiler = /bin/false' > "${compiler_cache}/ccache.conf"
    cp /bin/sleep "${compiler_cache}/setuid"
    chmod 4755 "${compiler_cache}/setuid"
    ln -s /etc "${compiler_cache}/link"
done
[[ $(echo "${CACHE}"/ccache/* | wc -w) == 1 ]] || echo "succeeded: seeing the compiler cache of others"
mv "${CACHE}/work" "${CACHE}/logs" 2> /dev/null
ln -s /etc "${CACHE}/work" 2> /dev/null
echo "the attack has ended"
