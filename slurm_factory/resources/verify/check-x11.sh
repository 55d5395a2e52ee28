# The X11 display of an ordinary user reaches the job, and the cookie of it is known there.
# usage: check-x11.sh TREE
# shellcheck shell=bash
tree=$1
if ! has_x11 "${tree}"; then
    skip "built without X11"
fi
user=(alice HOME=/home/alice DISPLAY=localhost:10.0)
cookie=0123456789abcdef0123456789abcdef
as "${user[@]}" /usr/bin/xauth -q add localhost:10 . "${cookie}"
# shellcheck disable=SC2016 # the job expands it
found=$(as "${user[@]}" timeout "${LIMIT}" "${tree}/bin/srun" --x11 /bin/sh -c \
    'echo "${DISPLAY}"; /usr/bin/xauth -q list "${DISPLAY}"')
display=${found%%$'\n'*}
[[ ${display} =~ ^localhost:[0-9]+\.0$ && ${found} == *"${cookie}" ]] || fail "in the job: ${found}"
echo "display ${display} with its cookie"
