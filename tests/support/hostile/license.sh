#!/usr/bin/env bash
# A license text that names a common license outside the tree. VICTIM: file of the host.
set -euo pipefail

deep=d/d/d/d/d/d/d/d/d
mkdir -p "${TREE}/share/licenses/${deep}"
echo text > "${TREE}/share/licenses/${deep}/LICENSE"
ln -s "${deep}" "${TREE}/share/licenses/a"
cat >> "${TREE}/share/licenses/slurm/LICENSE.OpenSSL" << TEXT
/usr/share/common-licenses/{${VICTIM}}
/usr/share/common-licenses/{../../a/../../../../../../../..${VICTIM}}
/usr/share/common-licenses/{../../../../../../../../../..${VICTIM}}
TEXT
