#!/bin/sh
# Deploy a package of slurm-factory on this machine: unpack it beside the versions that are there,
# write systemd units, users and module files, and switch to it; or go back.
#
# usage: sh deploy.sh PACKAGE-software.tar.gz [OPTION]…
#        sh deploy.sh --list | --rollback | --switch NAME | --remove NAME | --keep N [OPTION]…
#        sh deploy.sh --start
#        sh deploy.sh --plan-upgrade FROM TO
#
#   --prefix DIR         directory of all versions (default: /opt/slurm)
#   --role ROLE,…        write units for controller, dbd, compute, rest and login
#   --config NAME        write a first configuration for the cluster NAME to /etc/slurm; without
#                        --role, for who starts the daemons in another way, and without cgroups
#   --nodes LIST         compute nodes for --config, such as node[1-4] (default: this machine)
#   --conf-server HOST   compute and login nodes fetch the configuration from this controller
#   --slurm-uid N        id of the user slurm where it has to be made (default: 64030)
#   --start              enable and start the daemons in SchedMD's order; restart those that run
#   --no-switch          only unpack
#   --rollback           switch to the version that was current before
#   --switch NAME        switch to a version that is there
#   --state-backup PATH  a backup of the state that an older version can read
#   --list               show the versions
#   --remove NAME        remove a version that nothing uses
#   --keep N             remove all but the N newest
#   --plan-upgrade A B   print the legal way from series A to series B
#   --sha256 SUM         checksum of the tarball (default: from the .sha256 file beside it)
#   --module-sha256 SUM  checksum of the tarball of module files
#   --keys FILE          public keys (GnuPG); one of them must have signed the checksums beside it
#   --root DIR           write below DIR, for an image of a machine
#   --dry-run            change nothing
#   --json               print one JSON document
#
# Exit status: 0 done, 2 wrong usage or configuration, 3 this machine cannot be used, 6 the package
# is damaged or does not run here, 7 something cannot be written, 130 interrupted.
#
# PREFIX/versions/NAME/software is the tree of a version, PREFIX/current a link to the directory of
# one, and it is replaced by rename(2). A link that is right is never touched.
# This is the same file as share/slurm-factory/deploy.sh in the package. It needs no other program
# than those of a minimal Linux with systemd.
set -u
umask 022
LC_ALL=C
export LC_ALL

FORMAT=1
MARK='# Written by slurm-factory deploy.'
PART=software/share/slurm-factory
ROLES='controller:slurmctld dbd:slurmdbd compute:slurmd rest:slurmrestd login:sackd'
DAEMONS='munge slurmdbd slurmctld slurmd sackd slurmrestd' # in the order in which they are started
WAIT=120 # seconds
OUR_STATE=/var/spool/slurmctld
STARTED=/var/lib/slurm-factory # which packages slurmctld and slurmdbd have last been started from

package='' prefix=/opt/slurm roles='' asked='' cluster='' nodes='' conf_server='' slurm_uid=''
start='' switch=1 action=deploy state_backup='' name='' keep='' from='' to='' sha256='' module_sha256='' keys='' root=''
dry_run='' json='' scratch='' share='' changed='' next='' removed='' previous=''
unpacked=false switched=false

# --- messages -----------------------------------------------------------------------------------

say() { [ -n "$json" ] || printf '%s\n' "$*"; }
note() { printf '%s\n' "$*" >&2; }

# A string of JSON; control characters, and bytes that are no UTF-8, are left out.
quote() {
    printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037' | iconv -c -f UTF-8 -t UTF-8 | sed 's/[\\"]/\\&/g')"
}

# Whether a command succeeds, in JSON.
truth() { if "$@"; then printf true; else printf false; fi; }

# A list of JSON, from lines.
quote_lines() {
    printf '['
    separator=''
    printf '%s\n' "$1" | while IFS= read -r line; do
        [ -n "$line" ] || continue
        printf '%s%s' "$separator" "$(quote "$line")"
        separator=', '
    done
    printf ']'
}

# die STATUS WHAT WHY WHAT-TO-DO
die() {
    trap - EXIT HUP INT TERM
    clean_up
    if [ -n "$json" ]; then
        printf '{"version": 1, "error": {"exit_code": %d, "brief": %s, "details": %s, "resolution": %s}}\n' \
            "$1" "$(quote "$2")" "$(quote "$3")" "$(quote "$4")"
    fi
    printf 'Error: %s\n' "$2" >&2
    for text in "$3" "$4"; do
        [ -z "$text" ] || printf '%s\n' "$text" >&2
    done
    exit "$1"
}
usage() { die 2 "$1" "${2:-}" "${3:-All options: sh $0 --help}"; }

clean_up() {
    [ -z "$scratch" ] || rm -rf "$scratch"
    [ -z "$partial" ] || rm -rf "$partial"
    [ -z "$new_link" ] || rm -f "$new_link"
    [ -z "$new_file" ] || rm -f "$new_file"
    scratch='' partial='' new_link='' new_file=''
}
partial='' new_link='' new_file=''
interrupted() { die 130 'Interrupted.' "$(now_current)" ''; }
# What is current now, for those whom an error leaves in doubt.
now_current() {
    if [ "$switched" = true ] && [ "$(current)" = "$name" ]; then
        printf '%s' "$prefix/current is $name now${previous:+; before, it was $previous}."
    else
        printf '%s' 'The version that was current still is.'
    fi
}
trap clean_up EXIT
trap interrupted HUP INT TERM

# --- the command line ---------------------------------------------------------------------------

for word in "$@"; do
    [ "$word" != --json ] || json=1 # also for what is wrong before it
done

needs_value() { [ -n "${2:-}" ] || usage "$1 needs a value."; }
# Two things at once would hide one of them. act ACTION
act() {
    [ "$action" = deploy ] || usage "--$action and --$1 exclude each other."
    action=$1
}

while [ $# -gt 0 ]; do
    case $1 in
        --*=*)
            option=${1%%=*} value=${1#*=}
            shift
            set -- "$option" "$value" "$@"
            ;;
    esac
    case $1 in
        --prefix | --role | --config | --nodes | --conf-server | --slurm-uid | --state-backup | \
            --switch | --remove | --keep | --sha256 | --module-sha256 | --keys | --root) needs_value "$@" ;;
    esac
    case $1 in
        --prefix) prefix=$2 && shift ;;
        --role) roles="$roles $(printf '%s' "$2" | tr ',' ' ')" && shift ;;
        --config) cluster=$2 && shift ;;
        --nodes) nodes=$2 && shift ;;
        --conf-server) conf_server=$2 && shift ;;
        --slurm-uid) slurm_uid=$2 && shift ;;
        --state-backup) state_backup=$2 && shift ;;
        --sha256) sha256=$(printf '%s' "$2" | tr A-F a-f) && shift ;;
        --module-sha256) module_sha256=$(printf '%s' "$2" | tr A-F a-f) && shift ;;
        --keys) keys=$2 && shift ;;
        --root)
            root=${2%/}
            # An empty variable must not lead to the machine itself.
            [ -n "$root" ] || usage '--root needs a directory below /.'
            shift
            ;;
        --start) start=1 ;;
        --no-switch) switch='' ;;
        --dry-run) dry_run=1 ;;
        --json) json=1 ;;
        --list) act list ;;
        --rollback) act rollback ;;
        --switch) act switch && name=$2 && shift ;;
        --remove) act remove && name=$2 && shift ;;
        --keep) keep=$2 && shift ;;
        --plan-upgrade)
            [ $# -ge 3 ] || usage '--plan-upgrade needs two series.' '' \
                'Write --plan-upgrade 23.02 26.05, for example.'
            act plan-upgrade && from=$2 to=$3
            shift 2
            ;;
        -h | --help)
            sed -n '2,/^set /{/^#/!d;s/^# \{0,1\}//p;}' "$0"
            exit 0
            ;;
        -*) usage "There is no option $1." ;;
        *)
            [ -z "$package" ] || usage "Only one package can be deployed: $package or $1."
            package=$1
            ;;
    esac
    shift
done

[ -z "$keep" ] || [ -n "$package" ] || act keep
[ -z "$start" ] || [ -n "$package" ] || [ "$action" != deploy ] || act start

# Whether all characters are of some kinds, and there is one. consists_of TEXT KINDS
consists_of() { [ -n "$1" ] && [ "$(printf '%s' "$1" | tr -d "$2" && echo .)" = . ]; }

case $prefix in
    /*) ;;
    *) usage "--prefix $prefix is no absolute path." '' 'Write --prefix /opt/slurm, for example.' ;;
esac
[ "$prefix" = / ] || prefix=${prefix%/}
consists_of "$prefix" 'A-Za-z0-9._+~@=, /-' || usage "--prefix: $prefix has characters that a unit or a run path cannot hold." \
    'It may have letters, digits, spaces, and any of . _ + ~ @ = , -' 'Choose another directory.'
for role in $roles; do
    case " $ROLES" in
        *" $role:"*) ;;
        *) usage "There is no role $role." "There are: $(printf '%s' "$ROLES" | sed 's/:[a-z]*//g')" 'Write --role controller,dbd, for example.' ;;
    esac
done
if [ -n "$cluster" ]; then
    consists_of "$cluster" 'a-z0-9_-' || usage "--config: a cluster cannot be named $cluster." \
        'Slurm takes lower-case letters, digits, - and _.' 'Write --config mycluster, for example.'
    case " $roles " in
        '  ' | *' controller '*) ;;
        *) usage '--config with --role needs --role controller.' 'The configuration belongs on the controller; the others fetch it from there.' \
            'Run it on the controller, and give the other machines --conf-server; or omit --role.' ;;
    esac
fi
[ -z "$nodes" ] || [ -n "$cluster" ] || usage '--nodes belongs to --config.'
[ -z "$nodes" ] || consists_of "$nodes" 'A-Za-z0-9.,[]-' || usage "--nodes: $nodes is no list of nodes." '' 'Write --nodes node[1-4],gpu1, for example.'
[ -z "$conf_server" ] || consists_of "$conf_server" 'A-Za-z0-9.:,_-' || usage "--conf-server: $conf_server is no host." '' 'Write --conf-server ctl or ctl:6817.'
[ -z "$slurm_uid" ] || consists_of "$slurm_uid" '0-9' || usage "--slurm-uid: $slurm_uid is no number."
case $keep in
    0*) usage "--keep: $keep is no number of versions above 0." ;;
esac
[ -z "$keep" ] || consists_of "$keep" '0-9' || usage "--keep: $keep is no number of versions above 0."
[ -n "$switch" ] || [ "$action" = deploy ] || usage "--no-switch and --$action exclude each other."
[ -z "$start" ] || [ -z "$root" ] || usage '--start and --root exclude each other.' 'The daemons of an image cannot run here.'
case $action in
    deploy)
        [ -n "$package" ] || usage 'There is nothing to do.' 'Neither a package nor --list, --start, --rollback, --switch, --remove, --keep or --plan-upgrade is given.'
        ;;
    *) [ -z "$package" ] || usage "A package cannot be combined with --$action." ;;
esac

# --- what is there ------------------------------------------------------------------------------

top=$root$prefix
versions=$top/versions
tab=$(printf '\t')

# The value of a name in a file of lines NAME=VALUE. get FILE NAME
get() { sed -n "s/^$2=//p" "$1" 2> /dev/null | head -n 1; }

# The name of the version that is current; empty without any.
current() {
    target=$(readlink -f "$top/current" 2> /dev/null) && base=$(readlink -f "$versions" 2> /dev/null) || return 0
    case $target in
        "$base"/*/*) ;;
        "$base"/*) [ ! -d "$target" ] || printf '%s' "${target##*/}" ;;
    esac
}

# The names of all versions, the newest first.
names() {
    [ -d "$versions" ] || return 0
    for directory in "$versions"/*/; do
        [ ! -f "$directory/deployed" ] || printf '%s\t%s\n' \
            "$(get "$directory/deployed" time)" "$(basename "$directory")"
    done | sort -rn | cut -f 2
}

# The name of the version that was current before the current one; empty without any.
before() {
    now=$(current)
    [ -f "$top/history" ] || return 0
    cut -f 1 "$top/history" | while IFS= read -r line; do
        [ "$line" = "$now" ] || [ ! -f "$versions/$line/deployed" ] || printf '%s\n' "$line"
    done | tail -n 1
}

# Whether a program on this machine runs from a version; other machines may share the directory.
is_used() {
    tree=$(readlink -f "$versions/$1" 2> /dev/null) || return 1
    readlink /proc/[0-9]*/exe 2> /dev/null \
        | tree=$tree/ awk 'index($0, ENVIRON["tree"]) == 1 { used = 1 } END { exit !used }'
}

# Other deployments wait for nothing: they are told.
lock() {
    [ -z "$dry_run" ] || return 0
    [ "$(id -u)" = 0 ] || note 'Programs of other users that run from a version cannot be seen without root.'
    error=$(mkdir -p "$top" 2>&1) || die 7 "$top cannot be made." "$error" "$(advice)"
    [ -w "$top" ] || die 7 "$top cannot be written to." 'It belongs to another user, or its file system is read-only.' "$(advice)"
    command -v flock > /dev/null || die 3 'There is no flock on this machine.' 'It is a part of util-linux.' 'Install util-linux.'
    (: >> "$top/.lock") 2> /dev/null || die 7 "$prefix/.lock cannot be written." 'Another user may have made it.' "$(advice)"
    exec 9>> "$top/.lock"
    flock -n -E 75 9 2> /dev/null
    case $? in
        0) ;;
        75) die 3 "Another deployment into $prefix is running." '' 'Wait for it to end.' ;;
        *) die 3 "$prefix cannot be locked." 'Its file system has no locks (flock).' 'Mount it with locks, or deploy on its server.' ;;
    esac
    rm -rf "$versions"/.partial.* "$versions"/.removed.*
    rm -f "$top"/.current.*
}
advice() {
    if [ "$(id -u)" = 0 ]; then
        printf '%s' 'Choose another directory: --prefix'
    else
        printf '%s' 'Run it as root, such as with sudo, or choose another directory: --prefix'
    fi
}

# --- SchedMD's rules for upgrades ---------------------------------------------------------------

# Read the table of series: that of the package, or the one beside this file.
load_series() {
    for file in "$scratch/$PART/series.txt" "$(dirname "$0")/series.txt" "$versions"/*/"$PART/series.txt"; do
        if [ -f "$file" ]; then
            table=$(grep -v '^#' "$file")
            return
        fi
    done
    die 3 'The table of series is missing.' 'It is beside deploy.sh in a package, in share/slurm-factory/series.txt, and nothing is deployed yet.' \
        'Unpack it, too, or deploy a package first.'
}
series_table() { printf '%s\n' "$table"; }

# A number for a series, by which they can be compared. 24.05 -> 2405
number() { printf '%s' "$1" | tr -d .; }

# Whether a series can read what another has written. accepts NEW OLD
accepts() {
    [ "$1" != "$2" ] || return 0
    series_table | awk -v new="$1" -v old="$2" \
        '$1 == new { for (i = 3; i <= NF; i++) if ($i == old) found = 1 } END { exit !found }'
}
is_known() { series_table | awk -v it="$1" '$1 == it { found = 1 } END { exit !found }'; }

# The shortest way from one series to another, one a line; nothing if there is none. way FROM TO
way() {
    at=$1
    while [ "$at" != "$2" ]; do
        step=''
        for series in $(series_table | cut -d ' ' -f 1); do
            if [ "$(number "$series")" -gt "$(number "$at")" ] \
                && [ "$(number "$series")" -le "$(number "$2")" ] && accepts "$series" "$at"; then
                step=$series # the table is sorted: the last one is the farthest
            fi
        done
        [ -n "$step" ] || return 0
        printf '%s\n' "$step"
        at=$step
    done
}

print_plan() {
    load_series
    # A release belongs to the series of its first two numbers.
    from=$(printf '%s' "$from" | cut -d . -f 1-2) to=$(printf '%s' "$to" | cut -d . -f 1-2)
    for series in "$from" "$to"; do
        is_known "$series" || usage "There is no series $series." "Known are: $(series_table | cut -d ' ' -f 1 | paste -s -d ' ' -)" 'Write --plan-upgrade 23.02 26.05, for example.'
    done
    [ "$(number "$from")" -lt "$(number "$to")" ] || usage "$to is not newer than $from." 'Slurm cannot go back below the series that wrote its state.' \
        'Restore the state and the database from a backup instead.'
    hops=$(way "$from" "$to")
    [ -n "$hops" ] || die 2 "There is no way from $from to $to." '' ''
    if [ -n "$json" ]; then
        printf '{"version": 1, "upgrade": {"from": %s, "to": %s, "hops": %s}}\n' \
            "$(quote "$from")" "$(quote "$to")" "$(quote_lines "$hops")"
        return
    fi
    count=$(printf '%s\n' "$hops" | grep -c .)
    [ "$count" = 1 ] && count='1 upgrade' || count="$count upgrades"
    printf '%s: %s%s\n' "$count" "$from" "$(printf '%s\n' "$hops" | sed 's/^/ -> /' | tr -d '\n')"
    sed "s/@STATE@/$(state_directory | sed 's/[&/\\]/\\&/g')/" << 'TEXT'

For each upgrade, in this order:
  1. Let jobs of the upgrade before end: a job must not outlive two upgrades.
  2. Back up, with slurmdbd and slurmctld stopped:
       mariadb-dump --single-transaction slurm_acct_db > slurm_acct_db.sql
       tar -czf state.tar.gz -C @STATE@ .
     and /etc/slurm.
  3. slurmdbd: deploy with --role dbd, start it, and wait until sacctmgr answers. It converts the
     database once, which takes minutes to hours; do not stop it. This is the point of no return:
     from here on, going back means restoring the backup, and losing what came after it.
  4. slurmctld, on the backup controllers first.
  5. slurmd, on all nodes, with jobs running; at the latest before the next upgrade.
  6. Login nodes, slurmrestd, and programs that link with libslurm.
  7. Run a job, and look at sinfo, squeue and sacct, before the next upgrade.
Source: https://slurm.schedmd.com/upgrades.html
TEXT
}

# The value of a parameter of slurm.conf, which may be in a file that it includes. conf_value NAME
conf_value() {
    set -- "$1" "$root/etc/slurm/slurm.conf"
    [ -f "$2" ] || return 0
    includes=$(awk 'tolower($1) == "include" { print $2 }' "$2")
    for file in $includes; do
        case $file in
            /*) set -- "$@" "$root$file" ;;
            *) set -- "$@" "$root/etc/slurm/$file" ;;
        esac
    done
    wanted=$1
    shift
    # Names are of any case, values may be quoted (slurm.conf(5)).
    awk -v wanted="$wanted" '{
        sub(/#.*/, "")
        at = index($0, "=")
        name = substr($0, 1, at - 1)
        gsub(/[ \t]/, "", name)
        if (at && tolower(name) == tolower(wanted)) {
            value = substr($0, at + 1)
            gsub(/^[ \t"]+|[ \t"]+$/, "", value)
            found = value
        }
    } END { print found }' "$@" 2> /dev/null
}

# The directory of slurmctld's state on this machine: that of its configuration, or of ours.
state_directory() {
    value=$(conf_value StateSaveLocation)
    [ -n "$value" ] || [ ! -f "$root/etc/slurm/slurm.conf" ] || value=/var/spool
    printf '%s' "${value:-$OUR_STATE}"
}

# The series that wrote a state directory, by the number of its protocol at the beginning of
# job_state (dump_all_job_state in src/slurmctld/job_mgr.c); empty if there is none, "newer" if it
# is not in the table. state_series DIRECTORY
state_series() {
    file=$1/job_state
    [ -r "$file" ] || return 0
    [ "$(dd if="$file" bs=1 skip=4 count=16 2> /dev/null)" = PROTOCOL_VERSION ] || return 0
    protocol=$(od -An -tu1 -j21 -N1 "$file" | tr -d ' ')
    found=$(series_table | awk -v it="$protocol" '$2 == it { print $1 }')
    if [ -n "$found" ]; then
        printf '%s' "$found"
    elif [ "$protocol" -gt "$(series_table | tail -n 1 | cut -d ' ' -f 2)" ]; then
        printf newer
    else
        printf older
    fi
}

# The series that have written what daemons of this machine will read, one a line, and where they
# did. A daemon converts at its start, which its unit records; slurmctld saves its state later.
written() {
    state=$root$(state_directory)
    series=$(state_series "$state")
    [ -z "$series" ] || printf '%s\tThe state in %s\n' "$series" "$state"
    for daemon in slurmctld slurmdbd; do
        series=$(get "$root$STARTED/$daemon" series)
        ! consists_of "$series" '0-9.' || printf '%s\tWhat %s has written\n' "$series" "$daemon"
    done
}

# Refuse what the daemons of the target could not read. require_legal NAME SERIES
require_legal() {
    goal=$2
    load_series
    written > "$scratch/written"
    if [ ! -s "$scratch/written" ]; then
        # A node may go back. It has no state but its jobs, which newer daemons must understand.
        wrote=$(get "$versions/$(current)/deployed" series)
        [ -n "$wrote" ] && [ "$(number "$goal")" -ge "$(number "$wrote")" ] || return 0
        printf '%s\tWhat runs on this machine\n' "$wrote" > "$scratch/written"
    fi
    while IFS="$tab" read -r wrote where; do
        require_readable "$1" "$goal" "$wrote" "$where"
    done < "$scratch/written"
}

# require_readable NAME SERIES WRITER WHERE
require_readable() {
    case $3 in
        newer | older) die 2 "$1 cannot be used with the state in $root$(state_directory)." \
            "A series that is $3 than those that this package knows wrote it." \
            'Use a package of that series, or move the directory away.' ;;
    esac
    if [ "$(number "$2")" -lt "$(number "$3")" ]; then
        [ -n "$state_backup" ] || die 2 "Slurm cannot go back from $3 to $2." "$4 belongs to $3, and $2 cannot read it." \
            'Name a backup that was made with the older version (--state-backup DIRECTORY), and restore it and the database before you start the daemons.'
        require_backup "$2"
    elif ! accepts "$2" "$3"; then
        hops=$(way "$3" "$2" | tr '\n' ' ')
        die 2 "Slurm cannot be upgraded from $3 to $2 at once." "$4 belongs to $3, and $2 cannot read it." \
            "Upgrade step by step: $3 -> $(printf '%s' "${hops% }" | sed 's/ / -> /g'); see --plan-upgrade $3 $2"
    fi
}

# Whether a backup can be read by a series. require_backup SERIES
require_backup() {
    directory=$state_backup
    if [ -f "$state_backup" ]; then
        directory=$scratch/backup
        mkdir -p "$directory"
        member=$(tar --force-local -tf "$state_backup" 2> /dev/null | grep -E '(^|/)job_state$' | head -n 1)
        [ -z "$member" ] || tar --force-local -xOf "$state_backup" "$member" > "$directory/job_state" 2> /dev/null
    fi
    saved=$(state_series "$directory")
    [ -n "$saved" ] || die 2 "--state-backup: $state_backup is no backup of slurmctld's state." 'It has no file job_state that Slurm has written.' \
        'Name a copy or a tar archive of StateSaveLocation.'
    if [ "$saved" = newer ] || [ "$saved" = older ] || ! accepts "$1" "$saved"; then
        die 2 "--state-backup: $1 cannot read $state_backup." "A series $saved wrote it." 'Name a backup that was made with the older version.'
    fi
    restore="# With slurmctld stopped: restore $state_backup to $(state_directory), and slurmdbd's database; then: rm -f $STARTED/*"
    case $next in
        *"$restore"*) ;;
        *) add_next "$restore" ;;
    esac
}

# --- checks of the package and of this machine --------------------------------------------------

fact() { get "$share/package.conf" "$1"; }

open_package() {
    [ -f "$package" ] || die 2 "There is no file $package." '' 'Name a tarball whose name ends in -software.tar.gz.'
    case $package in
        *-module.tar.gz) die 2 "$package has the module files only." '' "Name the other tarball: ${package%-module.tar.gz}-software.tar.gz" ;;
    esac
    [ -r "$package" ] || die 2 "$package cannot be read." '' "$(advice)"
    require_checksum
    share=$scratch/$PART
    if ! error=$(tar --force-local -xzf "$package" --no-same-owner --no-same-permissions -C "$scratch" "$PART" 2>&1); then
        error=$(printf '%s\n' "$error" | grep . | head -n 1)
        case $error in
            *'Not found in archive'*) die 2 "$package cannot be deployed." 'It has no software/share/slurm-factory: a slurm-factory before 0.2 made it, or it is no package.' \
                'Build it again, or unpack it by hand.' ;;
            *) die 6 "$package cannot be unpacked." "$error" 'Copy it again, and compare its checksum.' ;;
        esac
    fi
    [ "$(fact format)" = "$FORMAT" ] || die 2 "$package is of another slurm-factory." \
        "Its format is $(fact format); this deploy.sh knows $FORMAT." 'Use the deploy.sh in the package.'
    for key in stem release series arch glibc size; do
        consists_of "$(fact $key)" 'A-Za-z0-9._+~-' || die 6 "$package cannot be deployed." "Its package.conf has no $key." 'Build it again.'
    done
    # What follows goes into commands of sed and the shell.
    if grep -qv '^[a-z0-9_]*=[A-Za-z0-9._+~/ -]*$' "$share/package.conf"; then
        die 6 "$package cannot be deployed." 'Its package.conf has characters that no package has.' 'Find out who made it.'
    fi
}

# A keyring for gpgv, which reads no armor.
write_keyring() {
    [ -f "$keys" ] && [ -r "$keys" ] || die 2 "The file with keys cannot be read: $keys." '' 'Export one: gpg --export --armor KEY'
    if ! head -n 1 "$keys" | grep -q '^-----BEGIN PGP PUBLIC KEY BLOCK-----'; then
        cp "$keys" "$scratch/keys.gpg"
        return
    fi
    # One block after the other: the end of each is padded.
    blocks=$(grep -c '^-----BEGIN PGP PUBLIC KEY BLOCK-----' "$keys")
    block=0
    : > "$scratch/keys.gpg"
    while [ "$((block += 1))" -le "$blocks" ]; do
        awk -v wanted="$block" '
            { sub(/\r$/, "") }
            /^-----BEGIN PGP PUBLIC KEY BLOCK-----/ { number++; text = 0; next }
            /^-----END/ { text = -1 }
            number == wanted && text == 1 && !/^=/ { print }
            /^$/ && text == 0 { text = 1 }
        ' "$keys" | base64 -d >> "$scratch/keys.gpg" 2> /dev/null || die 2 "The keys in $keys are damaged." '' 'Export them again: gpg --export --armor KEY'
    done
}

# Copies the checksums to $scratch/sums if one of the keys has signed them. gpgv ends with 0 for keys
# that are revoked, so that its words decide (doc/DETAILS of GnuPG).
require_signature() {
    command -v gpgv > /dev/null || die 3 '--keys needs gpgv.' 'It checks signatures.' "Install it, as with apt install gpgv or dnf install gnupg2."
    [ -f "$sums.asc" ] && [ -f "$sums" ] || die 6 "$package is not signed." "There is no $sums.asc beside it, or no $sums." \
        'Copy all files of a signed build, or omit --keys.'
    write_keyring
    # What is checked must be what is read afterwards.
    if ! cp "$sums" "$scratch/sums" || ! cp "$sums.asc" "$scratch/sums.asc"; then
        die 7 "$scratch cannot be written to." '' 'Make room.'
    fi
    words=$(gpgv --status-fd 1 --keyring "$scratch/keys.gpg" "$scratch/sums.asc" "$scratch/sums" 2> /dev/null | sed -n 's/^\[GNUPG:\] //p')
    verdict=$(printf '%s\n' "$words" | awk '
        $1 == "NEWSIG" { good = 0 }
        $1 == "GOODSIG" { good = 1 }
        $1 == "VALIDSIG" && good && $9 ~ /^(8|9|10|11)$/ { print "good"; found = 1; exit }
        $1 ~ /^(BADSIG|REVKEYSIG|EXPKEYSIG|EXPSIG|NO_PUBKEY)$/ { why = $1 }
        END { if (!found) print why }
    ')
    signer=$(printf '%s\n' "$words" | awk '$1 ~ /SIG$/ && NF > 2 && $1 != "NEWSIG" && $1 != "VALIDSIG" { $1 = ""; print; exit }')
    case $verdict in
        good) note "Signed by$signer" ;;
        BADSIG) die 6 "$sums is not what was signed." "The signature of$signer does not fit it." 'Copy all files of the build again.' ;;
        REVKEYSIG) die 6 "$sums is signed with a key that is revoked." "It is that of$signer." 'Take a newer package.' ;;
        EXPKEYSIG | EXPSIG) die 6 "$sums is signed with a key that has expired, or its signature has." "It is that of$signer." \
            'Get the key again, if its owner has extended it.' ;;
        NO_PUBKEY) die 6 "$sums is signed with a key that is not trusted." "$keys does not have it." 'If you trust its owner, add the public key.' ;;
        *) die 6 "The signature of $sums cannot be used." 'It is no signature of OpenPGP, or of a weak kind.' 'Copy all files of the build again.' ;;
    esac
}

# sum_of FILE: its checksum in the list
sum_of() { awk -v it="$(basename "$1")" '$2 == it || $2 == "*" it { print $1 }' "$sums"; }

require_module() {
    module=${package%-software.tar.gz}-module.tar.gz
    [ -f "$module" ] || return 0
    found=$(sha256sum < "$module" | cut -d ' ' -f 1)
    [ -z "$module_sha256" ] || [ "$found" = "$module_sha256" ] \
        || die 6 "$module is damaged." "Its checksum is $found, and should be $module_sha256." 'Copy it again, or move it away.'
    [ ! -f "$sums" ] || [ "$found" = "$(sum_of "$module")" ] \
        || die 6 "$module is damaged." "It is not the file that the ${signed:+signed }checksums list." 'Copy it again, or move it away.'
}

require_checksum() {
    sums=${package%-software.tar.gz}.sha256
    signed=''
    if [ -n "$keys" ]; then
        require_signature
        sums=$scratch/sums
        signed=$(sum_of "$package")
        [ -z "$sha256" ] || [ "$sha256" = "$signed" ] \
            || die 6 "$package is another one." "The signed checksum is $signed, and --sha256 is $sha256." 'Copy all files of one build.'
        [ -n "$signed" ] || die 6 "The signed checksums do not list $(basename "$package")." '' 'Copy all files of one build.'
        sha256=$signed
    fi
    require_module
    if [ -z "$sha256" ] && [ -f "$sums" ]; then
        sha256=$(sum_of "$package")
        [ -n "$sha256" ] || die 6 "$sums does not list $(basename "$package")." '' 'Copy both files of one build.'
    fi
    found=$(sha256sum < "$package" | cut -d ' ' -f 1)
    if [ -z "$sha256" ]; then
        note "There is no $(basename "$sums") beside the package: its checksum was not compared."
    elif [ "$found" != "$sha256" ]; then
        die 6 "$package is damaged." "Its checksum is $found, and should be $sha256." 'Copy it again.'
    fi
    sha256=$found
}

# Whether a version like 2.36 is at least another. at_least 2.36 2.28
at_least() {
    [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" = "${2%%.*}" ] && [ "${1#*.}" -ge "${2#*.}" ]; }
}

# With --root, the image has a C library and a CPU of its own.
require_machine() {
    [ -z "$root" ] || return 0
    machine=$(uname -m)
    [ "$machine" = "$(fact arch)" ] || die 3 "The package does not run on this machine." \
        "It is for $(fact arch), and this is $machine." "Build it for this machine: slurm-factory build --arch $machine"
    libc=$(getconf GNU_LIBC_VERSION 2> /dev/null | cut -d ' ' -f 2)
    [ -n "$libc" ] || die 3 'The package does not run on this machine.' 'It needs glibc, and this machine has another C library.' \
        'Use a distribution with glibc.'
    at_least "$libc" "$(fact glibc)" || die 3 'The package does not run on this machine.' \
        "It needs glibc $(fact glibc), and this machine has $libc." 'Build it with --deps spack, which runs from glibc 2.28 on, or on an older base.'
    missing=''
    flags=$(sed -n '/^\(flags\|Features\)[[:space:]]*:/{s/.*://p;q;}' /proc/cpuinfo)
    for feature in $(fact cpu_features); do
        case " $flags " in
            *" $feature "*) ;;
            *) missing="$missing $feature" ;;
        esac
    done
    [ -z "$missing" ] || die 3 'The package does not run on this CPU.' "It is for $(fact cpu), and this CPU lacks$missing." \
        'Build it for older CPUs: SLURM_FACTORY_SPACK_TARGET'
    cache=$({ ldconfig -p || /sbin/ldconfig -p; } 2> /dev/null)
    for library in $(fact libraries); do
        case $cache in
            *"$tab$library "*) ;;
            *) missing="$missing $library" ;;
        esac
    done
    [ -z "$missing" ] || die 3 'The package does not run on this machine.' "These libraries are missing:$missing." \
        "The manifest lists the packages that have them, below host_requirements."
}

require_space() {
    directory=$top
    while [ ! -d "$directory" ]; do directory=$(dirname "$directory"); done
    free=$(df -Pk "$directory" | awk 'NR == 2 { print $4 }')
    needed=$(($(fact size) + 10240))
    [ "$free" -ge "$needed" ] || die 7 "There is no room in $directory." \
        "The package needs $((needed / 1024)) MiB, and $((free / 1024)) MiB are free." 'Remove an old version: --list, --remove NAME'
}

# --- units, users, directories ------------------------------------------------------------------

has_role() {
    case " $roles " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}
# Whether a unit of ours starts a daemon from this prefix. has_unit DAEMON
has_unit() {
    unit=$root/etc/systemd/system/$1.service
    grep -qsF "$MARK" "$unit" && grep -qsF "\"$prefix/current/software/" "$unit"
}

# Add the roles that this machine has already: units and users of all are written together.
add_roles() {
    asked=$roles
    for pair in $ROLES; do
        has_role "${pair%:*}" || ! has_unit "${pair#*:}" || roles="$roles ${pair%:*}"
    done
    ! has_role compute || ! has_role login || die 2 'A machine is a compute node or a login node.' \
        'slurmd and sackd both provide the configuration in /run/slurm.' "Remove the unit of the other one: rm /etc/systemd/system/slurmd.service, or sackd.service"
}

# The unit of a distribution's package; empty if there is none. foreign_unit NAME
foreign_unit() {
    for directory in /etc/systemd/system /run/systemd/system /usr/local/lib/systemd/system \
        /usr/lib/systemd/system /lib/systemd/system; do
        file=$root$directory/$1.service
        if [ -e "$file" ] && ! grep -qsF "$MARK" "$file"; then
            printf '%s' "$file"
            return
        fi
    done
}

# The daemons of the roles, in the order in which they are started. A munge of the distribution is
# kept: both use the same socket, key and protocol.
daemons() {
    [ -n "$roles" ] || return 0
    for daemon in $DAEMONS; do
        case $daemon in
            munge) [ -n "$(foreign_unit munge)" ] || [ "${roles# *}" = rest ] || printf 'munge ' ;;
            slurmdbd) ! has_role dbd || printf 'slurmdbd ' ;;
            slurmctld) ! has_role controller || printf 'slurmctld ' ;;
            slurmd) ! has_role compute || printf 'slurmd ' ;;
            slurmrestd) ! has_role rest || printf 'slurmrestd ' ;;
            sackd) ! has_role login || printf 'sackd ' ;;
        esac
    done
}

# Daemons and commands end where the configuration names what a package does not have.
require_features() {
    for pair in PrologFlags:x11 AuthAltTypes:jwt; do
        value=$(conf_value "${pair%:*}" | tr '[:upper:]' '[:lower:]')
        case $value in
            *"${pair#*:}"*)
                [ "$(fact "${pair#*:}")" != no ] || die 2 'The package does not fit the configuration of this machine.' \
                    "/etc/slurm/slurm.conf has ${pair%:*}=$(conf_value "${pair%:*}"), and the package was built without ${pair#*:}." \
                    'Use a package with it, or change slurm.conf first.'
                ;;
        esac
    done
}

require_roles() {
    add_roles
    for role in $roles; do
        case " $(fact roles) " in
            *" $role "*) ;;
            *) die 2 "The package cannot have the role $role, which this machine has or is to have." "It has $(fact roles)." \
                'Build a standard package; sackd came with Slurm 23.11.' ;;
        esac
    done
    require_features
    [ -n "$asked" ] || return 0
    if [ -z "$root" ] && [ ! -d /run/systemd/system ]; then
        die 3 'Roles need systemd.' 'It does not run on this machine.' 'Omit --role, or write the units into an image: --root'
    fi
    if [ -z "$root" ] && [ -z "$dry_run" ] && [ "$(id -u)" != 0 ]; then
        die 3 'Roles need root.' 'They write to /etc/systemd/system, /etc/sysusers.d and /etc/tmpfiles.d.' "$(advice)"
    fi
    for daemon in $(daemons); do
        unit=$(foreign_unit "$daemon")
        [ -z "$unit" ] || die 3 "This machine has a $daemon of its own." "$unit does not belong to slurm-factory." \
            'Remove that package first, or deploy without --role and write your own units.'
    done
    has_id=$(account passwd slurm | cut -d : -f 3)
    if [ -n "$has_id" ]; then
        [ -z "$slurm_uid" ] || [ "$slurm_uid" = "$has_id" ] || die 2 "The user slurm cannot get the id $slurm_uid." "It is there, and has $has_id." \
            'Omit --slurm-uid, or change the user and its files first.'
        slurm_uid=$has_id
        return
    fi
    slurm_uid=${slurm_uid:-64030}
    for kind in passwd group; do
        owner=$(account "$kind" "$slurm_uid" | cut -d : -f 1)
        [ -z "$owner" ] || die 2 "The user slurm cannot have the id $slurm_uid." "$owner has it ($kind)." 'Choose one that is free on all machines: --slurm-uid'
    done
}

# The line of a user or group, also from a directory service; that of an image is in its files.
# account passwd|group NAME-OR-ID
account() {
    if [ -z "$root" ]; then
        getent "$1" "$2"
    else
        awk -F : -v it="$2" '$1 == it || $3 == it { print; exit }' "$root/etc/$1" 2> /dev/null
    fi
}

# A link of an image must not lead to this machine. inside DIRECTORY
inside() {
    [ -n "$root" ] || return 0
    case $(readlink -m "$1")/ in
        "$(readlink -f "$root")"/*) ;;
        *) die 2 "$1 leads out of $root." 'It is a link.' 'Make it a relative link.' ;;
    esac
}

add_changed() {
    changed="$changed$1
"
}

# Put a file in its place unless it is there already; others never see a part of it.
# place FILE DESTINATION MODE
place() {
    if [ -f "$root$2" ] && cmp -s "$1" "$root$2"; then
        return
    fi
    add_changed "$2"
    [ -z "$dry_run" ] || return 0
    new_file=$root$2.new$$
    inside "$(dirname "$new_file")"
    # No secret can be read before it has its mode.
    if ! { mkdir -p "$(dirname "$new_file")" && (umask 077 && cp "$1" "$new_file") && chmod "$3" "$new_file" \
        && mv -f "$new_file" "$root$2"; }; then
        die 7 "$2 cannot be written." 'The file system may be full or read-only.' 'Make room, and run the same command again.'
    fi
    new_file=''
}

# Options that a unit has from an earlier deployment, unless they are given again.
choose_options() {
    [ -n "$conf_server" ] || conf_server=$(sed -n 's/^ExecStart=.* --conf-server \([A-Za-z0-9.:,_-]*\) .*/\1/p' \
        "$root/etc/systemd/system/slurmd.service" "$root/etc/systemd/system/sackd.service" 2> /dev/null | head -n 1)
    server=''
    [ -z "$conf_server" ] || server=" --conf-server $conf_server"
    # slurmrestd ends where it is to serve accounts that there are not.
    rest=''
    if [ -n "$cluster" ]; then
        has_role dbd || rest=" $(fact rest_without_dbd)"
    elif [ -f "$root/etc/slurm/slurm.conf" ]; then
        [ "$(conf_value AccountingStorageType)" = accounting_storage/slurmdbd ] || rest=" $(fact rest_without_dbd)"
    fi
}

# Units fit one version: options have other names in others.
write_system_files() {
    [ -n "$roles" ] || return 0
    choose_options
    for daemon in $(daemons); do
        {
            printf '%s\n# Changes belong into a drop-in: systemctl edit %s\n' "$MARK" "$daemon"
            sed -e "s|@TREE@|$prefix/current/software|g" -e "s|@CONF_SERVER@|$server|g" -e "s|@REST@|$rest|g" \
                "$share/systemd/$daemon.service"
        } > "$scratch/file"
        place "$scratch/file" "/etc/systemd/system/$daemon.service" 644
    done
    has_id=$(account passwd slurm | cut -d : -f 3) state=$(state_directory)
    {
        printf '%s\n' "$MARK"
        printf 'u slurm %s "Slurm" /nonexistent /usr/sbin/nologin\n' "${has_id:-$slurm_uid}"
        [ -n "$(foreign_unit munge)" ] || printf 'u munge - "MUNGE" /nonexistent /usr/sbin/nologin\n'
        ! has_role rest || printf 'u slurmrestd - "Slurm REST" /nonexistent /usr/sbin/nologin\n'
    } > "$scratch/file"
    place "$scratch/file" /etc/sysusers.d/slurm-factory.conf 644
    {
        printf '%s\n' "$MARK"
        printf 'd /var/log/slurm 0755 slurm slurm\n'
        # Any other directory may serve others as well.
        ! has_role controller || [ "$state" != "$OUR_STATE" ] || printf 'd %s 0700 slurm slurm\n' "$OUR_STATE"
        if [ -z "$(foreign_unit munge)" ]; then
            printf 'd /etc/munge 0700 munge munge\nd /var/lib/munge 0700 munge munge\n'
            printf 'd /var/log/munge 0700 munge munge\n'
        fi
    } > "$scratch/file"
    place "$scratch/file" /etc/tmpfiles.d/slurm-factory.conf 644
    if has_role controller && [ "$state" != "$OUR_STATE" ] && [ ! -d "$root$state" ]; then
        add_next "install -d -m 700 -o slurm -g slurm $state"
    fi
    [ -z "$dry_run" ] && [ -n "$asked$changed" ] || return 0
    systemd-sysusers ${root:+"--root=$root"} slurm-factory.conf \
        || die 3 'The users could not be made.' 'systemd-sysusers failed.' 'Make the users slurm, munge and slurmrestd yourself.'
    made=$(account passwd slurm | cut -d : -f 3)
    [ -z "$slurm_uid" ] || [ "$made" = "$slurm_uid" ] || note "The user slurm has got the id $made; it must be the same on all machines."
}

# Give a file that may be there to a user; an image has ids of its own. give USER FILE
give() {
    [ -f "$root$2" ] || return 0
    owner=$(sed -n "s/^$1:[^:]*:\([0-9]*\):\([0-9]*\):.*/\1:\2/p" "$root/etc/passwd" | head -n 1)
    chown "${owner:-$1:$1}" "$root$2" || die 7 "$2 cannot be given to $1." '' "$(advice)"
}

make_directories() {
    [ -n "$roles" ] && [ -z "$dry_run" ] && [ -n "$asked$changed" ] || return 0
    systemd-tmpfiles ${root:+"--root=$root"} --create slurm-factory.conf \
        || die 7 'The directories could not be made.' 'systemd-tmpfiles failed.' 'Look at /etc/tmpfiles.d/slurm-factory.conf.'
    # The key of a new machine may be a copy that root has made.
    give munge /etc/munge/munge.key
    if [ -z "$root" ] && [ -n "$changed" ]; then
        systemctl daemon-reload || die 3 'systemd did not take the units.' '' 'systemctl daemon-reload'
    fi
}

# --- a first configuration ----------------------------------------------------------------------

require_no_configuration() {
    [ -n "$cluster" ] || return 0
    for file in slurm.conf slurmdbd.conf cgroup.conf database.sql; do
        [ ! -e "$root/etc/slurm/$file" ] || die 2 "There is a /etc/slurm/$file already." 'deploy writes a first configuration only.' \
            'Omit --config, or move the directory away.'
    done
    [ -n "$roles" ] || [ -n "$(account passwd slurm)" ] || die 2 'There is no user slurm.' \
        'Files of --config belong to it, and only --role makes users.' 'Make it, or add --role controller.'
}

# random N: N random bytes in hexadecimal.
random() { head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# Variables of the templates, for this machine. settings TREE
settings() {
    host=$(uname -n)
    host=${host%%.*}
    line=$("$1/sbin/slurmd" -C 2> /dev/null | sed -n 's/^NodeName=[^ ]* //p')
    [ -n "$line" ] || die 6 'The package does not describe this machine.' 'slurmd -C prints no NodeName.' 'Write /etc/slurm/slurm.conf yourself.'
    tracking=proctrack/cgroup task=task/cgroup,task/affinity gather=jobacct_gather/cgroup group=autodetect
    for controller in cpuset memory; do
        # Without a unit of ours, slurmd has no cgroup tree of its own.
        if [ -z "$roles" ] || [ ! -f "$1/lib/slurm/cgroup_v2.so" ] \
            || ! grep -qsw "$controller" /sys/fs/cgroup/cgroup.controllers; then
            # So it is in a container without such a tree, or on a machine with cgroup v1. linuxproc
            # refuses X11.
            tracking=proctrack/pgid task=task/affinity gather=jobacct_gather/linux
            group=$(fact without_cgroups)
        fi
    done
    [ "$group" = autodetect ] || note 'Slurm has no controllers of cgroup v2 here: jobs are not limited to their CPUs and memory.'
}

write_configuration() {
    [ -n "$cluster" ] || return 0
    if [ -n "$dry_run" ]; then
        for file in slurm/jwt_hs256.key munge/munge.key; do
            [ -e "$root/etc/$file" ] || add_changed "/etc/$file"
        done
        for file in cgroup.conf $(! has_role dbd || echo slurmdbd.conf database.sql) slurm.conf; do
            add_changed "/etc/slurm/$file"
        done
        return
    fi
    settings "$1"
    password=$(random 16)
    for file in cgroup slurmdbd slurm; do
        sed -e "s|@CLUSTER@|$cluster|g" -e "s|@CONTROLLER@|$host|g" -e "s|@PROCTRACK@|$tracking|g" \
            -e "s|@TASK@|$task|g" -e "s|@GATHER@|$gather|g" -e "s|@CGROUP@|$group|g" -e "s|@PASSWORD@|$password|g" \
            -e "s|@NODES@|NodeName=${nodes:-$host} $line State=UNKNOWN|g" "$share/etc/$file.conf" > "$scratch/$file.conf"
    done
    if ! has_role dbd; then
        sed -i '/^AccountingStorage/d' "$scratch/slurm.conf"
    fi
    if [ "$group" != autodetect ]; then
        sed -i '/^Constrain/d' "$scratch/cgroup.conf"
    fi
    (
        umask 077
        random 32 > "$scratch/jwt"
        head -c 1024 /dev/urandom > "$scratch/munge.key"
    )
    [ -e "$root/etc/slurm/jwt_hs256.key" ] || place "$scratch/jwt" /etc/slurm/jwt_hs256.key 600
    [ -e "$root/etc/munge/munge.key" ] || place "$scratch/munge.key" /etc/munge/munge.key 600
    place "$scratch/cgroup.conf" /etc/slurm/cgroup.conf 644
    if has_role dbd; then
        place "$scratch/slurmdbd.conf" /etc/slurm/slurmdbd.conf 600
        sed "s|@PASSWORD@|$password|g" "$share/etc/database.sql" > "$scratch/database.sql"
        place "$scratch/database.sql" /etc/slurm/database.sql 600
        add_next '# Install MariaDB, such as with: apt-get install mariadb-server && systemctl enable --now mariadb'
        add_next 'mariadb < /etc/slurm/database.sql && rm /etc/slurm/database.sql'
    fi
    place "$scratch/slurm.conf" /etc/slurm/slurm.conf 644
    give slurm /etc/slurm/jwt_hs256.key
    give slurm /etc/slurm/slurmdbd.conf
    [ -z "$nodes" ] || add_next "# Compare the line NodeName of /etc/slurm/slurm.conf with slurmd -C of each node, and copy /etc/munge/munge.key to all machines"
}

# --- unpack, switch, start ----------------------------------------------------------------------

# The name of the version: the stem, or with a part of the checksum if another package has that.
choose_name() {
    name=$(fact stem)
    taken=$(get "$versions/$name/deployed" sha256)
    if [ -e "$versions/$name" ] && [ "$taken" != "$sha256" ]; then
        name=$name-$(printf '%.8s' "$sha256")
    fi
}

# Whether a version is that of this package, and starts. is_whole NAME
is_whole() {
    [ "$(get "$versions/$1/deployed" sha256)" = "$sha256" ] \
        && { [ -n "$root" ] || env -i "$versions/$1/software/sbin/slurmd" -V > /dev/null 2>&1; }
}

# Whether the prefix needs nothing, as on the second machine with a shared one, which may be
# read-only there. is_done NAME
is_done() {
    is_whole "$1" && { [ -z "$switch" ] || [ "$(current)" = "$1" ]; }
}

unpack() {
    ! is_whole "$name" || return 0
    unpacked=true
    [ -z "$dry_run" ] || return 0
    partial=$versions/.partial.$$
    mkdir -p "$partial" || die 7 "$versions cannot be written to." '' "$(advice)"
    tar --force-local -xzf "$package" --no-same-owner --no-same-permissions -C "$partial" software 2> "$scratch/error" \
        || die 7 "$package could not be unpacked." "$(head -n 1 "$scratch/error")" 'Make room, and run the same command again.'
    module=${package%-software.tar.gz}-module.tar.gz
    if [ "$module" != "$package" ] && [ -f "$module" ]; then
        tar --force-local -xzf "$module" --no-same-owner --no-same-permissions -C "$partial" modules modulefiles \
            2> "$scratch/error" || die 6 "$module cannot be unpacked." "$(head -n 1 "$scratch/error")" 'Copy it again, or move it away.'
    fi
    if [ -z "$root" ]; then
        error=$(env -i "$partial/software/sbin/slurmd" -V 2>&1) || die 6 'The package does not run on this machine.' \
            "$(printf '%s' "$error" | tail -n 1)" 'The manifest lists what it needs.'
    fi
    # With SELinux, systemd starts only what has the type of programs.
    ! command -v restorecon > /dev/null || restorecon -R "$partial" 2> /dev/null
    printf 'stem=%s\nrelease=%s\nseries=%s\nsha256=%s\ntime=%s\n' "$(fact stem)" "$(fact release)" \
        "$(fact series)" "$sha256" "$(date +%s)" > "$partial/deployed" \
        || die 7 "$versions cannot be written to." '' 'Make room, and run the same command again.'
    # After a power cut, a directory with this name must have all its files.
    sync -f "$partial" 2> /dev/null || sync
    # Of a version that does not start, nothing is worth keeping.
    [ ! -e "$versions/$name" ] || mv -T "$versions/$name" "$versions/.removed.$$"
    mv -T "$partial" "$versions/$name" || die 7 "$versions/$name cannot be made." '' 'Make room, and run the same command again.'
    partial=''
    rm -rf "$versions/.removed.$$"
}

remember() {
    [ -w "$top" ] || return 0
    [ "$(tail -n 1 "$top/history" 2> /dev/null | cut -f 1)" = "$1" ] \
        || printf '%s\t%s\n' "$1" "$(date +%s)" >> "$top/history"
}

# switch_to NAME
switch_to() {
    previous=$(current)
    if [ "$previous" = "$1" ]; then
        previous=$(before)
        [ -n "$dry_run" ] || remember "$1"
        return
    fi
    switched=true
    [ -z "$dry_run" ] || return 0
    [ ! -e "$top/current" ] || [ -h "$top/current" ] || die 2 "$prefix/current is no link." 'deploy did not make it.' 'Move it away.'
    # An earlier deployment may have ended between the two.
    [ -z "$previous" ] || remember "$previous"
    new_link=$top/.current.$$
    if ! { ln -s "versions/$1" "$new_link" && mv -fT "$new_link" "$top/current"; }; then
        die 7 "$prefix/current cannot be replaced." '' "$(advice)"
    fi
    new_link=''
    remember "$1"
}

# Links to the module files of a version, which find the tree beside the files they lead to.
link_modules() {
    [ -z "$dry_run" ] && [ -w "$top" ] || return 0
    (cd "$versions/$1" && find modules modulefiles -type f 2> /dev/null) | while IFS= read -r file; do
        up=$(dirname "$file" | sed 's|[^/]*|..|g')
        [ "$(readlink "$top/$file" 2> /dev/null)" != "$up/versions/$1/$file" ] || continue
        mkdir -p "$(dirname "$top/$file")"
        ln -s "$up/versions/$1/$file" "$top/$file.new$$" && mv -fT "$top/$file.new$$" "$top/$file"
    done
}

# Let the version be current; its module files and its daemons follow.
make_current() {
    switch_to "$name"
    link_modules "$name"
    start_daemons
}

add_next() {
    next="$next$1
"
}

# Whether something listens on a TCP port of this machine. listens PORT
listens() {
    hex=$(printf '%04X' "$1")
    awk -v port=":$hex\$" '$2 ~ port && $4 == "0A" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6 2> /dev/null
}

# answers DAEMON: whether it does; what the client says otherwise is in a file
answers() {
    bin=$prefix/current/software/bin
    case $1 in
        munge) "$bin/munge" -n ;;
        slurmdbd)
            # A machine for the database alone has no slurm.conf, which sacctmgr needs.
            if [ -f /etc/slurm/slurm.conf ]; then
                "$bin/sacctmgr" --noheader show cluster
            else
                listens "$(sed -n 's/^[[:space:]]*[Dd][Bb][Dd][Pp][Oo][Rr][Tt]=\([0-9]*\).*/\1/p' /etc/slurm/slurmdbd.conf | grep . || echo 6819)"
            fi
            ;;
        slurmctld) "$bin/scontrol" ping ;;
        # It has no way to say that it is ready, and would start again and again.
        slurmrestd) systemctl is-active "$1" && sleep 2 && systemctl is-active "$1" ;;
        *) systemctl is-active "$1" ;;
    esac > "$scratch/answer" 2>&1
}

# The last error of a daemon, or its last line.
last_line() {
    journalctl -q -o cat -n 50 -u "$1" 2> /dev/null > "$scratch/journal"
    { grep -E 'error:|fatal:' "$scratch/journal" || cat "$scratch/journal"; } | tail -n 1
}

start_daemons() {
    list=$(daemons)
    if [ -z "$start" ]; then
        [ -z "$list" ] || if [ -n "$root" ]; then
            add_next "systemctl --root=$root enable $list"
        else
            add_next "sh $0 $([ "$prefix" = /opt/slurm ] || printf -- '--prefix "%s" ' "$prefix")--start    # enables and starts $list"
        fi
        return
    fi
    [ -z "$dry_run" ] || return 0
    for daemon in $list; do
        if ! { systemctl -q enable "$daemon" && systemctl restart "$daemon"; }; then
            die 3 "$daemon does not start. $(now_current)" "$(last_line "$daemon")" "journalctl -u $daemon"
        fi
        waited=0
        note "waiting for $daemon"
        until answers "$daemon"; do
            waited=$((waited + 1))
            # The unit starts a daemon again that ends; a daemon that ends each time will not answer.
            restarts=$(systemctl show -p NRestarts --value "$daemon" 2> /dev/null)
            [ "${restarts:-0}" -lt 3 ] || waited=$((WAIT + 1))
            [ "$waited" -le "$WAIT" ] || die 3 "$daemon does not answer. $(now_current)" "$(last_line "$daemon")" "journalctl -u $daemon; $(grep . "$scratch/answer" | tail -n 1)"
            sleep 1
        done
        note "$daemon runs"
    done
}

# Backups come before daemons of another series. require_same_series NAME
require_same_series() {
    [ -n "$start" ] || return 0
    now=$(get "$versions/$(current)/deployed" series)
    goal=$(get "$versions/$1/deployed" series)
    goal=${goal:-$(fact series)}
    [ -n "$now" ] && [ "$now" != "$goal" ] || return 0
    for daemon in slurmdbd slurmctld; do
        ! has_unit "$daemon" || die 2 "--start does not go from $now to $goal." 'slurmdbd and slurmctld convert what the older version has written.' \
            "Deploy without --start, back up, and start the daemons in SchedMD's order: --plan-upgrade $now $goal"
    done
}

report() {
    directory=$prefix/versions/$name
    if [ -n "$json" ]; then
        printf '{"version": 1, "deploy": {"name": %s, "release": %s, "directory": %s, "previous": %s, "unpacked": %s, "switched": %s, "files": %s, "next": %s, "removed": %s, "dry_run": %s}}\n' \
            "$(quote "$name")" "$(quote "${release:-}")" "$(quote "$directory")" "$(quote "$previous")" \
            "$unpacked" "$switched" "$(quote_lines "$changed")" "$(quote_lines "$next")" "$(quote_lines "$removed")" "$(truth [ -n "$dry_run" ])"
        return
    fi
    would=''
    [ -z "$dry_run" ] || would='would be '
    [ "$unpacked" = false ] || say "$directory: ${would}unpacked"
    [ -z "$dry_run" ] || say "checks: checksum, glibc $(fact glibc) or newer, CPU, libraries, space, and the upgrade have passed"
    printf '%s' "$changed" | while IFS= read -r file; do say "$root$file: ${would}written"; done
    if [ "$switched" = true ]; then
        say "$prefix/current: ${would}switched to $name${previous:+, from $previous}"
    elif [ -n "$switch" ]; then
        say "$prefix/current: is $name already"
    fi
    [ -z "$next" ] || [ -n "$dry_run" ] || printf '\nNext:\n%s' "$next" | sed '3,$s/^/    /'
}

# --- the actions --------------------------------------------------------------------------------

deploy() {
    open_package
    release=$(fact release)
    require_machine
    require_space
    choose_name
    require_roles
    require_no_configuration
    require_legal "$name" "$(fact series)"
    require_same_series "$name"
    { [ -z "$keep" ] && is_done "$name"; } || lock
    unpack
    write_system_files
    write_configuration "$versions/$name/software"
    make_directories
    [ -z "$switch" ] || make_current
    [ -z "$keep" ] || remove_older
    report
}

# Switch to a version that is there: the one before, or one by its name.
switch_back() {
    # A machine that may not write to a shared prefix can still take what is there.
    if [ "$action" = rollback ] || [ "$(current)" != "$name" ]; then lock; fi
    if [ "$action" = rollback ]; then
        name=$(before)
        [ -n "$name" ] || die 2 'There is no version to go back to.' "$prefix/history names no other one that is still there." 'sh deploy.sh --list, or: slurm-factory deploy --list'
    else
        require_version --switch
    fi
    share=$versions/$name/$PART
    release=$(get "$versions/$name/deployed" release)
    require_legal "$name" "$(get "$versions/$name/deployed" series)"
    require_same_series "$name"
    require_roles
    write_system_files
    make_directories
    make_current
    report
}

# Under its own name it is complete, or gone. remove_version NAME
remove_version() {
    say "$prefix/versions/$1: $([ -z "$dry_run" ] || printf 'would be ')removed"
    [ -z "$dry_run" ] || return 0
    find "$top/modules" "$top/modulefiles" -type l -lname "*/versions/$1/*" -delete 2> /dev/null
    if ! { mv -T "$versions/$1" "$versions/.removed.$$" && rm -rf "$versions/.removed.$$"; }; then
        die 7 "$versions/$1 cannot be removed." '' "$(advice)"
    fi
}

# require_version OPTION
require_version() {
    case $name in
        */* | .*) usage "$1: $name is no name of a version." '' 'See --list.' ;;
    esac
    [ -f "$versions/$name/deployed" ] || usage "There is no version $name in $prefix." '' 'See --list.'
}

remove() {
    require_version --remove
    lock
    [ "$name" != "$(current)" ] || die 2 "$name is current." '' 'Switch to another one first: deploy it, or --rollback'
    ! is_used "$name" || die 2 "$name is in use." 'Programs of this machine, perhaps jobs, run from it.' 'Wait for them to end.'
    remove_version "$name"
    [ -z "$json" ] || printf '{"version": 1, "removed": %s}\n' "$(quote_lines "$name")"
}

# The N newest, the current one, the one before and those in use stay.
remove_older() {
    stays=$(current)
    back=$(before)
    [ -z "$dry_run" ] || [ "$action" != deploy ] || stays=$name back=$(current)
    at=0
    for each in $(printf '%s\n' "$([ "$unpacked" = false ] || printf '%s' "$name")" "$(names)" | grep . | awk '!seen[$0]++'); do
        at=$((at + 1))
        if [ "$at" -gt "$keep" ] && [ "$each" != "$stays" ] && [ "$each" != "$back" ] && ! is_used "$each"; then
            remove_version "$each"
            removed="$removed$each
"
        fi
    done
}

list() {
    now=$(current) back=$(before)
    if [ -n "$json" ]; then
        printf '{"version": 1, "versions": ['
        separator=''
        for each in $(names); do
            printf '%s{"name": %s, "release": %s, "sha256": %s, "time": %s, "current": %s, "previous": %s, "in_use": %s}' "$separator" "$(quote "$each")" \
                "$(quote "$(get "$versions/$each/deployed" release)")" "$(quote "$(get "$versions/$each/deployed" sha256)")" \
                "$(get "$versions/$each/deployed" time | grep -x '[0-9]*' || echo 0)" "$(truth [ "$each" = "$now" ])" \
                "$(truth [ "$each" = "$back" ])" "$(truth is_used "$each")"
            separator=', '
        done
        printf ']}\n'
        return
    fi
    [ -n "$(names)" ] || note "There is no version in $prefix."
    for each in $(names); do
        used=''
        [ "$each" != "$now" ] || used=current
        [ "$each" != "$back" ] || used=previous
        ! is_used "$each" || used="$used${used:+, }in use"
        printf '%s\t%s\t%s\t%s\n' "$each" "$(get "$versions/$each/deployed" release)" \
            "$(date -d "@$(get "$versions/$each/deployed" time)" '+%Y-%m-%d %H:%M')" "$used"
    done
}

if [ "$(id -u)" = 0 ]; then
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export PATH
fi
scratch=$(mktemp -d) || die 7 'There is no room for temporary files.' '' 'Make room in /tmp, or set TMPDIR.'
case $action in
    deploy) deploy ;;
    rollback | switch) switch_back ;;
    start)
        name=$(current)
        [ -n "$name" ] || die 2 "There is no version in $prefix." '' 'Name a package, or another --prefix'
        switch_back
        ;;
    remove) remove ;;
    keep)
        [ ! -d "$versions" ] || lock
        remove_older
        [ -z "$json" ] || printf '{"version": 1, "removed": %s}\n' "$(quote_lines "$removed")"
        ;;
    list) list ;;
    plan-upgrade) print_plan ;;
esac
