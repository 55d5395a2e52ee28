# Make the instance a machine of the site that docs/install.md takes for granted: it has a name, it
# knows the other machines, and nothing of Slurm is there.
# usage: become.sh NAME DIRECTORY 'ADDRESS NAME'…    (DIRECTORY: will hold the package)
# shellcheck shell=bash
name=$1 directory=$2
shift 2
for user in munge slurm slurmrest; do
    userdel "${user}"
done
systemctl disable --now --quiet mariadb
echo "${name}" > /etc/hostname
hostname "${name}"
printf '%s\n' '127.0.0.1 localhost' "$@" > /etc/hosts
mkdir -p "${directory}"
