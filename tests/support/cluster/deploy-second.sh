# Deploy a second version while a job runs, go back, and switch many times while steps are started.
# usage: deploy-second.sh SCRIPT PACKAGE SWITCHES    (SCRIPT: deploy.sh)
# shellcheck shell=bash
script=$1 package=$2 switches=$3
current=/opt/slurm/current
tree=${current}/software
runs() { readlink "/proc/$(pgrep -o -x slurmd)/exe"; }
first=$(readlink -f "${current}")

job=$(as alice "${tree}/bin/sbatch" --parsable --chdir=/home/alice --output=/home/alice/long.out \
    --wrap='until [ -e /home/alice/go ]; do sleep 0.2; done; echo survived')
wait_for "job ${job} to run" is_running "${tree}" "${job}"
sh "${script}" "${package}" --start
second=$(readlink -f "${current}")
[[ ${second} != "${first}" && $(runs) == "${second}"/* ]] || fail "slurmd runs from $(runs)"
is_running "${tree}" "${job}" || fail "the job did not survive the deployment"
if sh "${script}" --remove "$(basename "${first}")" 2> /tmp/refusal; then
    fail "a version was removed from which a job runs"
fi
grep -q 'is in use' /tmp/refusal || fail "$(cat /tmp/refusal)"

sh "${script}" --rollback --start
[[ $(readlink -f "${current}") == "${first}" && $(runs) == "${first}"/* ]] || fail "no way back: $(runs)"
is_running "${tree}" "${job}" || fail "the job did not survive the way back"
touch /home/alice/go
finished() { grep -qx survived /home/alice/long.out; }
wait_for "the end of job ${job}" finished
echo "job survived"

# Steps are started until the last switch is done, so that each switch happens among them.
steps() {
    local done=0
    while [[ ! -e /run/switched ]]; do
        as alice "${tree}/bin/srun" --quiet /bin/true || return 1
        done=$((done + 1))
    done
    echo "${done}" > "/run/steps.$1"
}
rm -f /run/switched
steps 1 & one=$!
steps 2 & two=$!
for ((i = 0; i < switches; i++)); do
    sh "${script}" --rollback > /dev/null
    sleep 0.5
done
touch /run/switched
for each in "${one}" "${two}"; do
    wait "${each}" || fail "a step failed while the version was switched"
done
echo "$(($(< /run/steps.1) + $(< /run/steps.2))) steps during ${switches} switches, 0 failed"
