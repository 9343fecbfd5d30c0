#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the C tests in all IPI modes: shared, static and with the portable reader.
#   run.sh DIRECTORY [TEST...]
set -u
directory=$1
shift
[ $# -gt 0 ] || set -- sections grace_periods life corners bad_use callbacks flavours polled storm litmus \
    stall boost unreachable urcu
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

for mode in auto signal membarrier; do
    export RCU_NOTRACE_IPI=$mode
    for test in "$@"; do
        for kind in "" .static .portable; do
            echo "# $test$kind, $mode"
            one "$directory/$test$kind"
        done
    done
done
unset RCU_NOTRACE_IPI
if [ -x "$directory/two_archives" ]; then one "$directory/two_archives"; fi
echo "c-tests: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
