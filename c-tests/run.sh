#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs the C tests, each in the ways in which it is likeliest to fail: the read side shared, static and
# with the portable reader; what is built on it mostly shared. All of them in the default mode, most in mode
# `signal`. Tests that are named run in all modes and all ways (`make check-long` names them all).
#   run.sh DIRECTORY [TEST...]
set -u
directory=$1
shift
passed=0 failed=0 skipped=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

one() { # binary
    timeout "${TEST_SECONDS:-300}" "$1" >"$output" 2>&1
    local status=$?
    cat "$output"
    # Each verdict is a line. One that ends badly without any, or passes without a word, has not run its scenarios.
    if [ $status -ge 124 ] || { [ $status -ne 0 ] && ! grep -q '^not ok' "$output"; }; then
        echo "not ok $1: ended with status $status"
        failed=$((failed + 1))
    elif ! grep -qE '^(not )?ok' "$output"; then
        echo "not ok $1: no scenario"
        failed=$((failed + 1))
    fi
    passed=$((passed + $(grep -c '^ok .*[^P]$' "$output")))
    skipped=$((skipped + $(grep -c '^ok .*# SKIP$' "$output")))
    failed=$((failed + $(grep -c '^not ok' "$output")))
}

run() { # mode, kind, tests
    export RCU_NOTRACE_IPI=$1
    local kind=$2
    shift 2
    # Masses: the full numbers where signals are sent, a tenth elsewhere.
    if [ -n "${FAULTS_LONG:-}" ]; then
        case $RCU_NOTRACE_IPI$kind in
        auto | signal) FAULTS_LONG=1 ;;
        *) FAULTS_LONG=10 ;;
        esac
    fi
    for test in "$@"; do
        echo "# $test$kind, $RCU_NOTRACE_IPI"
        one "$directory/$test$kind"
    done
}

if [ $# -gt 0 ]; then
    for mode in auto signal membarrier; do
        for kind in "" .static .portable; do run $mode "$kind" "$@"; done
    done
else
    reading="sections grace_periods life corners exits bad_use storm litmus"
    above="callbacks children messages flavours polled stall unreachable"
    # The last ones: refused calls, what is hostile to a process, masses of whatever there is.
    run auto "" $reading $above boost urcu events tracepoints steps forks waits faults hostile crowd
    run auto .static $reading
    run auto .portable $reading flavours polled
    run signal "" $reading $above hostile
    run signal .portable $reading
    run membarrier "" sections grace_periods storm
fi
# Tracepoints loaded by their code, and in a program that is not position-independent.
case " ${*:-tracepoints} " in
*" tracepoints "*)
    RCU_NOTRACE_KEYS=load run auto "" tracepoints
    if [ $# -gt 0 ]; then run auto .fixed tracepoints; fi
    ;;
esac
unset RCU_NOTRACE_IPI
if [ -x "$directory/two_archives" ]; then one "$directory/two_archives"; fi
echo "c-tests: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
