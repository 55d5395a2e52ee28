# seff finds a job by the API for Perl, and smail sends what it says.
# usage: check-perl.sh TREE
# shellcheck shell=bash
tree=$1
job=$(as alice "${tree}/bin/sbatch" --parsable --chdir="${SHARED}" --output=/dev/null --wrap=/bin/true)
accounted "${tree}" "${job}" > /dev/null
said=$(as alice "${tree}/bin/seff" "${job}")
grep -qx "State: COMPLETED (exit code 0)" <<< "${said}" || fail "seff: ${said}"
# shellcheck disable=SC2016 # the program expands it
[[ -e /bin/mail ]] || printf '#!/bin/sh\ncat > /tmp/mail.$3\n' > /bin/mail
chmod 755 /bin/mail
as slurm PATH=/usr/bin:/bin "${tree}/bin/smail" -s \
    "Slurm Job_id=${job} Name=wrap Ended, Run time 00:00:01, COMPLETED, ExitCode 0" alice
grep -qx "Job ID: ${job}" /tmp/mail.alice || fail "smail: $(cat /tmp/mail.alice)"
grep '^Job Wall-clock time' <<< "${said}"
