# Shared by the scripts of the actions.
# shellcheck shell=bash

# Text as the value of a workflow command (docs.github.com, "Workflow commands for GitHub Actions").
escaped() {
    local text=${1//'%'/%25}
    text=${text//$'\r'/%0D}
    printf '%s' "${text//$'\n'/%0A}"
}

# Ends a script with an annotation. fail STATUS WHAT WHY-AND-WHAT-TO-DO
fail() {
    local title
    title=$(escaped "$2")
    title=${title//:/%3A}
    printf '::error title=%s::%s\n' "${title//,/%2C}" "$(escaped "$2"$'\n'"$3")"
    exit "$1"
}

# The values of a boolean input. require_boolean NAME VALUE
require_boolean() {
    [[ $2 == true || $2 == false ]] ||
        fail 2 "The input $1 is not valid: $2" "Write true or false."
}

# The options that read-inputs.sh has written, each with a zero byte at its end.
# shellcheck disable=SC2034 # used by the scripts
OPTIONS_FILE=${RUNNER_TEMP:-/tmp}/slurm-factory-options
