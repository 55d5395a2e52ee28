#!/usr/bin/env bash
# Make the part of NVML that Slurm's configure needs, from the header alone. The plugin opens the
# driver's own library at run time and is not linked with this one.
# HEADER: nvml.h. PREFIX: where include/ and lib/stubs/ go. CC: compiler, or gcc.
set -euo pipefail

mkdir -p "${PREFIX}/include" "${PREFIX}/lib/stubs"
cp "${HEADER}" "${PREFIX}/include/nvml.h"
# Every declared function: with fewer, newer releases of Slurm silently omit features.
sed -n 's/^nvmlReturn_t  *DECLDIR  *\(nvml[A-Za-z0-9_]*\)(.*/int \1(void) { return 1; }/p;
        s/^const DECLDIR char\*  *\(nvml[A-Za-z0-9_]*\)(.*/const char *\1(void) { return ""; }/p' \
    "${HEADER}" | sort -u > "${PREFIX}/stub.c"
"${CC:-gcc}" -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o "${PREFIX}/lib/stubs/libnvidia-ml.so" "${PREFIX}/stub.c"
