# A program compiled against the tree's headers and libslurm asks the controller.
# usage: check-api.sh TREE    (API_CLIENT: its source)
# shellcheck shell=bash
tree=$1
printf '%s' "${API_CLIENT}" | gcc -x c - -I "${tree}/include" -L "${tree}/lib" "-Wl,-rpath,${tree}/lib" \
    -lslurm -o /var/tmp/api-client
said=$(as alice /var/tmp/api-client)
[[ ${said} == "3 nodes, "* ]] || fail "${said}"
echo "${said}"
