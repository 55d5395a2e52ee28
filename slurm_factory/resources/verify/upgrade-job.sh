# Submit a job that lasts until upgrade-end.sh, and print its number.
# usage: upgrade-job.sh TREE
# shellcheck shell=bash
begin_waiting "$1"
