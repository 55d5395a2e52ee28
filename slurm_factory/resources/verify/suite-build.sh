# Build plain Slurm from a release's source archive, as a site does.
# usage: suite-build.sh ARCHIVE SOURCE PREFIX OPTION…    (SOURCE: directory for what is in ARCHIVE)
# shellcheck shell=bash
archive=$1 source=$2 prefix=$3
mkdir -p "${source}"
tar -xf "${archive}" -C "${source}" --strip-components=1 --no-same-owner
cd "${source}" || exit
{
    ./configure --prefix="${prefix}" --sysconfdir=/etc/slurm --disable-debug --disable-static \
        --disable-dependency-tracking --without-systemdsystemunitdir \
        CFLAGS="-O1 -fno-strict-aliasing" "${@:4}"
    make -s -j"$(nproc)"
    make -s install
    # Packages have these two of contribs.
    make -s -C contribs/pmi install
    make -s -C contribs/pmi2 install
} > "${source}.log" 2>&1 || {
    tail -n 20 "${source}.log" >&2
    exit 1
}
# Tests write files beside themselves.
chown -R slurm:slurm "${source}"
