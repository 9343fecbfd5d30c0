#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the C tests: in all IPI modes, shared, static and with the portable reader; those above the
# read side shared in all modes, and with the portable reader in the first. Tests that are named run in
# all ways (`make check-long` names them all).
#   run.sh DIRECTORY [TEST...]
set -u
directory=$1
shift
reading="sections grace_periods life corners bad_use storm litmus"
above="callbacks flavours polled stall boost unreachable urcu events tracepoints steps"
if [ $# -gt 0 ]; then
    reading="$*" above=
fi
passed=0 failed=0 skipped=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

one() { # binary
    timeout 300 "$1" >"$output" 2>&1
    local status=$?
    cat "$output"
    [ $status -lt 124 ] || { echo "not ok $1: ended with status $status"; failed=$((failed + 1)); }
    passed=$((passed + $(grep -c '^ok .*[^P]$' "$output")))
    skipped=$((skipped + $(grep -c '^ok .*# SKIP$' "$output")))
    failed=$((failed + $(grep -c '^not ok' "$output")))
}

run() { # mode, kind, tests
    export RCU_NOTRACE_IPI=$1
    local kind=$2
    shift 2
    for test in "$@"; do
        echo "# $test$kind, $RCU_NOTRACE_IPI"
        one "$directory/$test$kind"
    done
}

for mode in auto signal membarrier; do
    for kind in "" .static .portable; do
        run $mode "$kind" $reading
    done
    run $mode "" $above
done
run auto .portable $above
# Tracepoints in a static program, in one that is not position-independent, and loaded by its code.
if [[ " $above $reading " == *" tracepoints "* ]]; then
    [ "$above" ] && run auto .static tracepoints
    run auto .fixed tracepoints
    RCU_NOTRACE_KEYS=load run auto "" tracepoints
fi
unset RCU_NOTRACE_IPI
if [ -x "$directory/two_archives" ]; then one "$directory/two_archives"; fi
echo "c-tests: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
