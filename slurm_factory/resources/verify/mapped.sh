# List what running daemons, a job step among them, have mapped to execute, and what libraries of
# the machine among these need themselves.
# usage: mapped.sh TREE
# Prints "mapped<tab>PROGRAM<tab>FILE" and "needed<tab>BY<tab>FILE".
# shellcheck shell=bash
tree=$1
rm -f "${SHARED}/hold"
mkfifo -m 0644 "${SHARED}/hold"
programs=(munged slurmctld slurmd slurmstepd)
! has "${tree}" accounting_storage_mysql || programs+=(slurmdbd)
[[ ! -e ${tree}/sbin/slurmrestd ]] || programs+=(slurmrestd)
mpi=none
! has "${tree}" mpi_pmix || mpi=pmix
# Whatever fails, no job stays behind.
trap 'as alice "${tree}/bin/scancel" --user=alice || true' EXIT
as alice timeout "${LIMIT}" "${tree}/bin/srun" "--mpi=${mpi}" /bin/cat "${SHARED}/hold" > /dev/null &
wait_for "the task" pgrep -x -u alice cat

for program in "${programs[@]}"; do
    pids=$(pgrep -x "${program}") || fail "${program} does not run"
    for pid in ${pids}; do
        # Nothing but the path may hold a space.
        sed -n 's#^[^ ]* [^ ]*x[^ ]* [^ ]* [^ ]* [^ ]* *\(/.*\)$#\1#p' "/proc/${pid}/maps"
    done | sort -u | sed "s#^#mapped\t${program}\t#"
done > /tmp/mapped
timeout 60 sh -c "echo > '${SHARED}/hold'"
wait

cat /tmp/mapped
cut -f 3 /tmp/mapped | sort -u | grep -vF "${tree}/" | while read -r library; do
    ldd "${library}" | awk '/=> \// { print $3 }' | xargs -r readlink -f |
        sed "s#^#needed\t${library}\t#"
done
