#!/bin/bash
# Lets this job publish to the build cache for everybody: logs in to the registry, and takes the key that
# signs into the keyring. Without the key, which only the repository itself has, nothing is published.
#
# usage: log-in.sh REGISTRY
# ACTOR, TOKEN: of the registry. SIGNING_KEY: secret key, armored. GITHUB_ENV: variables for later steps.
set -euo pipefail
registry=$1

if [[ -z ${SIGNING_KEY} ]]; then
    echo "::notice::There is no key: this build cache is not published."
    exit
fi
docker login "$registry" --username "$ACTOR" --password-stdin <<< "$TOKEN"
gpg --batch --quiet --import <<< "$SIGNING_KEY"
fingerprint=$(gpg --batch --with-colons --list-secret-keys | awk -F: '$1 == "fpr" { print $10; exit }')
[[ -n $fingerprint ]]
cat >> "$GITHUB_ENV" <<END
SLURM_FACTORY_SPACK_BUILDCACHE_PUBLISH=oci://$registry/${GITHUB_REPOSITORY_OWNER,,}/buildcache
SLURM_FACTORY_SIGN_KEY=$fingerprint
END
