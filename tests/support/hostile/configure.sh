#!/usr/bin/env bash
# Configure nothing, and claim results that a shell would run. SOURCE: directory.
set -euo pipefail

cd "${SOURCE}"
touch config.h config.status
cat > config.cache << 'CACHE'
ac_cv_evil=${ac_cv_evil=$(touch /opt/slurm-factory-cache/evil)}
ac_cv_evil2='$(touch /opt/slurm-factory-cache/evil)'
PATH=/opt/slurm-factory-cache/evil
CACHE
printf '%064d\n' 0 > config.outcome
