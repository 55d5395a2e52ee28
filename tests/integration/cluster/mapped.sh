# List what running daemons, a job step among them, have mapped to execute, and what libraries of
# the machine among these need themselves.
# usage: mapped.sh TREE
# Prints "mapped<tab>PROGRAM<tab>FILE" and "needed<tab>BY<tab>FILE".
# shellcheck shell=bash
tree=$1
as alice "${tree}/bin/srun" --quiet --mpi=pmix /bin/sleep 60 2> /dev/null &
for process in slurmstepd sleep; do
    wait_for 20 "${process}" pgrep -x "${process}"
done

for program in munged slurmdbd slurmctld slurmd slurmstepd slurmrestd; do
    pids=$(pgrep -x "${program}") || fail "${program} does not run"
    for pid in ${pids}; do
        # Nothing but the path may hold a space.
        sed -n 's#^[^ ]* [^ ]*x[^ ]* [^ ]* [^ ]* [^ ]* *\(/.*\)$#\1#p' "/proc/${pid}/maps"
    done | sort -u | sed "s#^#mapped\t${program}\t#"
done > /tmp/mapped
pkill -x sleep
wait

cat /tmp/mapped
cut -f 3 /tmp/mapped | sort -u | grep -vF "${tree}/" | while read -r library; do
    ldd "${library}" | awk '/=> \// { print $3 }' | xargs -r readlink -f |
        sed "s#^#needed\t${library}\t#"
done
