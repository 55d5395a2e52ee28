# The completion of the commands is found by where they lie, and completes.
# usage: check-completion.sh TREE
# shellcheck shell=bash
tree=$1
cat > /tmp/complete.sh << 'COMPLETE'
PATH=$1/bin:/usr/bin:/bin
. /usr/share/bash-completion/bash_completion
case ${BASH_COMPLETION_VERSINFO[0]}.${BASH_COMPLETION_VERSINFO[1]} in
    # Older ones only look below XDG_DATA_DIRS.
    2.[0-9] | 2.10 | 2.11) export XDG_DATA_DIRS=$1/share:/usr/share ;;
esac
if declare -F _comp_load > /dev/null; then _comp_load srun; else __load_completion srun; fi
complete -p srun
COMP_WORDS=(srun --cpus-per-t) COMP_CWORD=1 COMP_LINE='srun --cpus-per-t' COMP_POINT=17 COMP_TYPE=9
_srun srun --cpus-per-t srun
printf '%s\n' "${COMPREPLY[@]}"
COMPLETE
found=$(as alice /bin/bash --norc --noprofile /tmp/complete.sh "${tree}")
grep -q -- '--cpus-per-task' <<< "${found}" || fail "${found}"
echo "srun --cpus-per-t: $(tail -1 <<< "${found}")"
