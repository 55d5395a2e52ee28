#!/usr/bin/env bash
# Make the sysroot of an older C library in a base instance, and compilers that use it: what they
# make starts on every machine whose C library is at least as old.
# GLIBC: its release, such as 2.28. SYSROOT: the directory to make.
# ZIG_WHEEL: the ziglang wheel, which has the tables of all releases of the C library; it is removed.
# START NONSHARED INIT SPEEDS ALIASES: content of start.S, nonshared.c, init.c, termios-baud.h and
# aliases.txt.
set -euo pipefail

# The program that compiles, of each compiler.
declare -A PARTS=([gcc]=cc1 [g++]=cc1plus [gfortran]=f951)

case "$(uname -m)" in
    x86_64)
        headers=(x86-linux-gnu generic-glibc x86-linux-any any-linux-any)
        protection=(-fcf-protection)
        loader=lib64/ld-linux-x86-64.so.2
        ;;
    aarch64)
        headers=(aarch64-linux-gnu generic-glibc aarch64-linux-any any-linux-any)
        protection=(-mbranch-protection=standard)
        loader=lib/ld-linux-aarch64.so.1
        ;;
    *)
        echo "There is no sysroot for $(uname -m)"
        exit 1
        ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "${scratch}"' EXIT
python3 -m zipfile -e "${ZIG_WHEEL}" "${scratch}"
zig="${scratch}/ziglang"
chmod +x "${zig}/zig"
library="${SYSROOT}/usr/lib"
mkdir -p "${library}" "${SYSROOT}/usr/include" "${SYSROOT}/bin" "${SYSROOT}/$(dirname "${loader}")"

echo "Making the sysroot of glibc ${GLIBC}"
export ZIG_GLOBAL_CACHE_DIR="${scratch}/cache" ZIG_LOCAL_CACHE_DIR="${scratch}/cache"
echo 'int main(void) { return 0; }' > "${scratch}/main.c"
"${zig}/zig" cc -target "$(uname -m)-linux-gnu.${GLIBC}" "${scratch}/main.c" -o "${scratch}/main"
stubs=$(dirname "$(find "${scratch}/cache" -name all.map)")

# zig's stubs have the names of one variable at several addresses. A program that has a copy of the
# variable would then have another one than the library: a NULL environ, for example.
while read -r name same; do
    [[ -n ${name} ]] || continue
    sed -i -E "${stubs}/c.s" "${stubs}/m.s" \
        -e "s/^${name}_([0-9_]+): [.]fill .*/.set ${name}_\\1, ${same}_\\1/" \
        -e "s/^[.]globl (${name}_[0-9_]+)$/.weak \\1/"
done <<< "${ALIASES}"
# The one pair with two versions.
sed -i -E 's/^[.]set signgam_2_([0-9_]+), __signgam_.*/.set signgam_2_\1, __signgam_2_23/' \
    "${stubs}/m.s"

# A directive of LLVM's assembler alone.
sed -i -E 's/^[.]rodata$/.data/' "${stubs}"/*.s

# The headers are those of 2.43. These functions were called in another way before: nobody must find
# them by the old version. Of all others whose default version is newer than 2.28, only the speeds of
# terminals (below) and errors of arithmetic differ.
minor=${GLIBC#*.}
declare -A CHANGED=(["totalorder(mag)?"]=31 ["u?fromfpx?"]=43)
for name in "${!CHANGED[@]}"; do
    if ((minor < CHANGED[${name}])); then
        sed -i -E "/^[.]symver ${name}(f|l|f[0-9]+x?)?_[0-9_]+, /d" "${stubs}/m.s"
    fi
done

make_stub() {
    local source=$1 soname=$2
    gcc -shared -nostdlib -Wl,--version-script="${stubs}/all.map" -Wl,-soname="${soname}" \
        -Wl,--hash-style=gnu -Wa,--noexecstack -o "${library}/${soname}" "${stubs}/${source}.s"
}
make_stub c libc.so.6
make_stub ld "$(basename "${loader}")"
for number in m:6 pthread:0 dl:2 rt:1 util:1 resolv:2; do
    name="lib${number%:*}.so"
    make_stub "${number%:*}" "${name}.${number#*:}"
    ln -s "${name}.${number#*:}" "${library}/${name}"
done
ln -s "../usr/lib/$(basename "${loader}")" "${SYSROOT}/${loader}"

for directory in "${headers[@]}"; do
    # Those of the architecture come first, and win.
    cp -rn "${zig}/lib/libc/include/${directory}/." "${SYSROOT}/usr/include/"
done
# zig gives the release as an option.
sed -i "s/^#define[[:space:]]__GLIBC__[[:space:]].*/&\\n#define __GLIBC_MINOR__ ${GLIBC#*.}/" \
    "${SYSROOT}/usr/include/features.h"
grep -q "^#define __GLIBC_MINOR__ ${GLIBC#*.}$" "${SYSROOT}/usr/include/features.h"
# Not there before 2.32, and looked for by the header alone.
if ((minor < 32)); then
    rm -f "${SYSROOT}/usr/include/sys/single_threaded.h"
fi
if ((minor < 42)); then
    printf '%s\n' "${SPEEDS}" > "${SYSROOT}/usr/include/bits/termios-baud.h"
fi
# libstdc++ was configured for the base's C library.
configured=$(g++ -E -x c++ -include bits/c++config.h /dev/null | grep -o '"/[^"]*/bits/c++config.h"' |
    head -1 | tr -d '"')
mkdir -p "${SYSROOT}/include/bits"
cp "${configured}" "${SYSROOT}/include/bits/c++config.h"
if ((minor < 30)); then
    sed -i -E "${SYSROOT}/include/bits/c++config.h" \
        -e '/^#define _GLIBCXX_USE_PTHREAD_(COND_CLOCKWAIT|MUTEX_CLOCKLOCK|RWLOCK_CLOCKLOCK) /d'
fi

arguments=(--sysroot="${SYSROOT}" -B "${library}/" -L "${library}")
objects=(-c -O2 -fPIC -fstack-protector-strong -U_FORTIFY_SOURCE "${protection[@]}")
cd "${scratch}"
printf '%s\n' "${START}" > start.S
printf '%s\n' "${NONSHARED}" > nonshared.c
printf '%s\n' "${INIT}" > init.c
gcc "${arguments[@]}" "${objects[@]}" start.S -o "${library}/Scrt1.o"
gcc "${arguments[@]}" "${objects[@]}" init.c -o init.o
gcc "${arguments[@]}" "${objects[@]}" -ffunction-sections nonshared.c -o nonshared.o
ar rcsD "${library}/libc_nonshared.a" nonshared.o init.o
ln -s Scrt1.o "${library}/crt1.o"
for object in crti.o crtn.o; do
    cp -L "$(gcc -print-file-name="${object}")" "${library}/${object}"
done
cat > "${library}/libc.so" <<SCRIPT
GROUP ( libc.so.6 libc_nonshared.a AS_NEEDED ( $(basename "${loader}") ) )
SCRIPT

# The compiler's own libraries, which stay outside of packages, need the base's C library.
arguments+=("-Wl,--allow-shlib-undefined")
declare -A MORE=([g++]="-isystem ${SYSROOT}/include")
for compiler in "${!PARTS[@]}"; do
    program=$(command -v "${compiler}") || continue
    # ccache knows a compiler by its content: that of the real one is a part of this one's.
    real=$(sha256sum "$(readlink -f "${program}")" "$(gcc -print-prog-name="${PARTS[${compiler}]}")")
    cat > "${SYSROOT}/bin/${compiler}" <<WRAPPER
#!/bin/sh
# ${real//$'\n'/ }
exec ${program} ${arguments[*]} ${MORE[${compiler}]-} "\$@"
WRAPPER
    chmod +x "${SYSROOT}/bin/${compiler}"
done
rm -f "${ZIG_WHEEL}"
