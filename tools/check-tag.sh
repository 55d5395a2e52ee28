#!/bin/bash
# Refuses a tag that does not name the program's version: what PyPI has under a version stays.
#
# usage: check-tag.sh TAG PROGRAM
set -euo pipefail

tag=$1
version=$("$2" --version)
[[ $tag == "v$version" ]] && exit
echo "Error: The tag $tag does not name the version of the program, $version." >&2
echo "Why: slurm_factory/__init__.py has the version, and each commit can be one version only." >&2
echo "What to do: delete the release and its tag, and tag the commit as v$version, or change the version first." >&2
exit 1
