# A module finds srun when loaded, and takes everything back when unloaded.
# usage: check-modules.sh TREE lmod|tcl UNPACKED [SLURM_INSTALL_PREFIX]
# (UNPACKED: directory of the module tarball's content)
# shellcheck shell=bash
tree=$1 system=$2 unpacked=$3 given=${4:-}
case ${system} in
    lmod) init=usr/share/lmod/lmod/init/bash modules=modules ;;
    tcl) init=usr/share/modules/init/bash modules=modulefiles ;;
esac
version_of_lmod() {
    bash -c ". /opt/module-systems/${init}; module --version" 2>&1 | sed -n 's/.*Version \([0-9]*\).*/\1/p'
}
if [[ ${system} == lmod && ${unpacked} == *' '* ]] && (($(version_of_lmod) < 8)); then
    skip "Lmod $(version_of_lmod) drops spaces from MODULEPATH"
fi
session=$(
    cat << 'SESSION'
set -e
# What a module system keeps for itself is not the module's.
# Modules 4 keeps counters of what it has not added itself.
snapshot() {
    env -0 | grep -zvE '^(LOADEDMODULES|_LMFILES_|_ModuleTable|__|BASH_FUNC_|_=|[A-Z]+_modshare=)' | sort -z
}
. "$1"
module use "$2"
snapshot > /tmp/before
module load slurm
[ "$(command -v srun)" = "$3/bin/srun" ] || { echo "srun is $(command -v srun)" >&2; exit 1; }
srun --version
srun /bin/true
snapshot > /tmp/loaded
module unload slurm
snapshot > /tmp/after
! command -v srun
SESSION
)
rm -f /tmp/before /tmp/loaded /tmp/after
as alice HOME=/home/alice PATH=/usr/bin:/bin MANPATH=/mine CPATH=/mine \
    ${given:+SLURM_INSTALL_PREFIX="${given}"} /bin/bash --norc --noprofile -c "${session}" \
    session "/opt/module-systems/${init}" "${unpacked}/${modules}" "${tree}"
if cmp -s /tmp/before /tmp/loaded; then
    fail "the module changed nothing"
fi
cmp /tmp/before /tmp/after || fail "$(diff <(tr '\0' '\n' < /tmp/before) <(tr '\0' '\n' < /tmp/after))"
echo "${system}: loaded and unloaded"
