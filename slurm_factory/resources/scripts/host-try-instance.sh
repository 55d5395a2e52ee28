#!/bin/bash
# Starts an instance that contains only a shell, runs a command in it and deletes it. This tests
# whether instances start at all before there is an image. Prints the cause if none does, and ends
# with exit code 9 where LXD is in order and still none starts.
# Usage: host-try-instance.sh NAME UID GID
#   UID, GID  ids on the host that the instance's root maps to; 0: LXD's own map
set -euo pipefail

none_starts=9

name=$1
idmap=
[[ $2 == 0 ]] || idmap=$(printf 'uid %s 0\ngid %s 0' "$2" "$3")
lxc=(lxc --project default)
directory=$(mktemp -d)

# An instance that has just failed to start stays busy for a moment.
tidy() {
    for _ in {1..20}; do
        timeout 60 "${lxc[@]}" delete --force "local:$name" ||
            "${lxc[@]}" info "local:$name" || break
        sleep 0.3
    done
    timeout 60 "${lxc[@]}" image delete "local:$name" || true
    rm -rf "$directory"
} &>/dev/null </dev/null
trap tidy EXIT
trap 'exit 130' INT TERM

# The first error in the start log is the cause; lxc's own message is not.
cause() {
    local logged
    logged=$(timeout 20 "${lxc[@]}" info --show-log "local:$name" 2>/dev/null |
        sed -nE 's/.* ERROR +.*:[0-9]+ - //p' | head -n 1) || true
    echo "Error: ${logged:-${1#Error: }}"
    exit "$code"
}

files() {
    local program
    for program in /bin/sh /bin/sleep; do
        echo "$program"
        ldd "$program" | grep -oE '/[^ ]+'
    done | sort -u
}

cd "$directory"
printf 'architecture: %s\ncreation_date: 1700000000\n' "$(uname -m)" >metadata.yaml
mkdir -p rootfs/{dev,proc,sys,run,tmp,etc,root,sbin}
printf '#!/bin/sh\nexec /bin/sleep 600\n' >rootfs/sbin/init
chmod 755 rootfs rootfs/sbin rootfs/sbin/init
while read -r file; do
    mkdir -p "rootfs${file%/*}"
    cp --dereference "$file" "rootfs$file"
done < <(files)
tar -czf image.tar.gz metadata.yaml rootfs

code=1
run() {
    local said
    said=$(timeout --kill-after=5 60 "$@" 2>&1 </dev/null) || cause "$(grep '^Error' <<<"$said" || echo "${said:-no end within 60 s}")"
}

run "${lxc[@]}" image import image.tar.gz local: --alias "$name"
run "${lxc[@]}" init "local:$name" "local:$name" --config "raw.idmap=$idmap"
code=$none_starts
run "${lxc[@]}" start "local:$name"
for _ in 1 2 3 4 5; do
    # Shortly after a start, lxc may not be able to run commands yet.
    if timeout 20 "${lxc[@]}" exec -T "local:$name" -- /bin/sh -c : &>/dev/null </dev/null; then
        exit 0
    fi
    sleep 0.3
done
run "${lxc[@]}" exec -T "local:$name" -- /bin/sh -c :
