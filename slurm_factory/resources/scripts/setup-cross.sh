#!/usr/bin/env bash
# Add what compiling for another architecture needs to a base instance.
# ARCHITECTURE: as Debian names it. TRIPLET: as GNU names it. LIBRARIES and PROGRAMS: packages with
# either, separated by spaces. SOURCES_LIST: lines for apt with the packages of
# that architecture; empty: the archive of the base has them.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

dpkg --add-architecture "${ARCHITECTURE}"
if [[ -n ${SOURCES_LIST} ]]; then
    # The archive of the base has only its own (sources.list(5)).
    native=$(dpkg --print-architecture)
    find /etc/apt -maxdepth 2 -name '*.list' -exec sed -E -i \
        "s/^[[:space:]]*deb[[:space:]]+(\[([^]]*)\][[:space:]]*)?/deb [arch=${native} \2] /" {} +
    find /etc/apt -maxdepth 2 -name '*.sources' \
        -exec sed -i "s/^Types:.*/&\nArchitectures: ${native}/" {} +
    printf '%s\n' "${SOURCES_LIST}" > /etc/apt/sources.list.d/slurm-factory-cross.list
fi
apt-get update
# shellcheck disable=SC2086 # lists of names
apt-get -y install ${LIBRARIES}

# Their maintainer scripts would run programs of the other architecture.
packages=$(mktemp -d)
cd "${packages}"
# shellcheck disable=SC2086
apt-get -o APT::Sandbox::User=root download ${PROGRAMS}
for package in *.deb; do
    dpkg-deb --raw-extract "${package}" content
    rm -f content/DEBIAN/{preinst,postinst,prerm,postrm,config}
    dpkg-deb --build content "${package}"
    rm -r content
done
apt-get -y install ./*.deb
cd /
rm -r "${packages}"
apt-get clean

# configure takes the flags from this program (Slurm's x_ac_databases.m4), and that of the package is
# one of the other architecture.
cat > /usr/bin/mysql_config << CONFIG
#!/bin/sh
case \$1 in
    --version)
        sed -n 's/^#define MYSQL_SERVER_VERSION *"\([0-9.]*\).*/\1/p' \
            /usr/include/mariadb/mariadb_version.h
        ;;
    --include) ${TRIPLET}-pkg-config --cflags libmariadb ;;
    --libs_r) ${TRIPLET}-pkg-config --libs libmariadb ;;
esac
CONFIG
chmod 755 /usr/bin/mysql_config
