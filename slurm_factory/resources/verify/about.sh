# Print the versions of the C library and of the kernel.
# usage: about.sh
# shellcheck shell=bash
echo "$(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2) $(uname -r)"
