#!/usr/bin/env bash
# Unpack Spack and its package recipes in a base instance, and find the tools it takes from the
# base. SPACK_ARCHIVE PACKAGES_ARCHIVE CLINGO_WHEEL: files; they are removed.
# SPACK SPACK_PACKAGES INDEX: directories to make. SPACK_PYTHON: interpreter to make.
# EXTERNALS: the packages.yaml to write.
set -euo pipefail

# Build tools only. A library that packages contain must not become an external here.
TOOLS=(
    autoconf automake bison cmake diffutils findutils flex gawk gcc gettext gmake libtool m4 perl
    pkgconf python tar
)

mkdir -p "${SPACK}" "${SPACK_PACKAGES}" "${INDEX}" "$(dirname "${EXTERNALS}")"
tar -xzf "${SPACK_ARCHIVE}" -C "${SPACK}" --no-same-owner
tar -xzf "${PACKAGES_ARCHIVE}" -C "${SPACK_PACKAGES}" --no-same-owner

# clingo needs the distribution's cffi, a package of the system's Python.
python3 -m venv --without-pip --system-site-packages "${SPACK_PYTHON%/bin/*}"
modules=$("${SPACK_PYTHON}" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
"${SPACK_PYTHON}" -m zipfile -e "${CLINGO_WHEEL}" "${modules}"
"${SPACK_PYTHON}" -c 'import clingo'
# Spack 1.1 waits for ever for processes that are not forks of it, and Python 3.14 makes others.
echo 'import multiprocessing; multiprocessing.set_start_method("fork", force=True)' > "${modules}/fork.pth"
"${SPACK_PYTHON}" -c 'import multiprocessing as m; assert m.get_start_method() == "fork"'

scratch=$(mktemp -d)
trap 'rm -rf "${scratch}"' EXIT
export SPACK_PYTHON
export SPACK_USER_CONFIG_PATH="${scratch}" SPACK_USER_CACHE_PATH="${scratch}/cache"
export SPACK_SYSTEM_CONFIG_PATH="${scratch}/none"
# Without /bin, which is the same directory: with both, Spack would find every tool at two prefixes.
export PATH=/usr/sbin:/usr/bin

cat > "${scratch}/config.yaml" <<CONFIG
config:
  misc_cache: "${INDEX}"
CONFIG
cat > "${scratch}/repos.yaml" <<REPOS
repos::
  builtin: "${SPACK_PACKAGES}/repos/spack_repo/builtin"
REPOS

# The first command imports every package recipe for the index.
echo "Spack is looking for build tools; this takes some minutes"
"${SPACK}/bin/spack" external find --not-buildable --scope user "${TOOLS[@]}"

for tool in "${TOOLS[@]}"; do
    if ! grep -q "^  ${tool}:$" "${scratch}/packages.yaml"; then
        echo "Spack did not find ${tool} in the base"
        exit 1
    fi
done
cp "${scratch}/packages.yaml" "${EXTERNALS}"
rm -f "${SPACK_ARCHIVE}" "${PACKAGES_ARCHIVE}" "${CLINGO_WHEEL}"
