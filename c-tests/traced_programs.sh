#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The tracers under real, unmodified programs: traced_programs.sh [BUILD-DIRECTORY]
#
# Each program runs once without them, then under the tracers of heap and locks in each IPI mode, their
# probes being detached and attached every millisecond. Standard output, standard error, exit status and
# what the program wrote must be the same to the byte; the trace must open, show the program's
# calls, have lost none, and, of a run of more than 20 ms, show that the probes came and went.
set -u

build=$(realpath -- "${1:-build}")
rcutrace=$build/tracers/rcutrace
unset RCU_NOTRACE_IPI RCU_NOTRACE_SIGNAL
. "$(dirname "$0")/programs.sh"
passed=0 failed=0 skipped=0
declare -A least_threads=([python]=8 [sort]=2 [tar_xz]=5 [main_leaves]=2)

# number LABEL - what the report's summary says of LABEL
number() {
    sed -n '/^  "trace": {/,/^  }/s/^    "'"$1"'": \([0-9]*\),\{0,1\}$/\1/p' report
}

# check NAME - the program, in all modes
check() {
    local name=$1 mode why start ms mallocs attached
    why=$(fails_plainly "$name")
    if [ -n "$why" ]; then
        echo "not ok traced_programs: $name without the tracers: $why"
        failed=$((failed + 1))
        return
    fi
    for mode in auto signal membarrier; do
        rm -f trace report dump
        start=$(date +%s%N)
        RCU_NOTRACE_IPI=$mode RCUTRACE_TOGGLE_MS=1 run traced "$name" \
            timeout 60 "$rcutrace" record --quiet -t heap,locks -o "$work/trace" --
        ms=$((($(date +%s%N) - start) / 1000000))
        why=$(compare)
        mallocs=0 attached=0
        if [ -z "$why" ]; then
            if ! "$rcutrace" report --json trace > report 2> diff.txt ||
                ! "$rcutrace" dump trace > dump 2> diff.txt; then
                why="the trace does not open: $(head -n 1 diff.txt)"
            fi
        fi
        if [ -z "$why" ]; then
            mallocs=$(grep -c ' heap:malloc ' dump)
            attached=$(grep -c ' STATE "heap" attached' dump)
            [ "$mallocs" -gt 0 ] || why='no call of malloc seen'
            [ "$(number lost)" = 0 ] || why="$(number lost) events lost"
            [ "$(number threads)" -ge "${least_threads[$name]:-1}" ] || why="threads $(number threads)"
            if [ "$ms" -gt 60 ] && [ "$attached" -lt 2 ]; then
                why="attached $attached times in $ms ms"
            fi
        fi
        if [ -n "$why" ]; then
            echo "not ok traced_programs: $name in mode $mode: $why"
            failed=$((failed + 1))
            continue
        fi
        echo "ok traced_programs: $name in mode $mode ($(number events) events, attached $attached times," \
            "threads $(number threads), images $(number processes))"
        passed=$((passed + 1))
    done
}

# test_program NAME COMMAND... - the program, if the commands that it needs are there
test_program() {
    local name=$1 needed
    shift
    for needed; do
        if ! command -v "$needed" > /dev/null 2>&1; then
            echo "ok traced_programs: $name # SKIP: no $needed here"
            skipped=$((skipped + 1))
            return
        fi
    done
    check "$name"
}

if [ ! -x "$rcutrace" ]; then
    echo "not ok traced_programs: no $rcutrace"
    echo 'traced_programs: 0 passed, 1 failed, 0 skipped'
    exit 1
fi

test_program git_log git
test_program python "${python:-python3}"
test_program gcc gcc
test_program sort sort
test_program tar_xz tar xz git
test_program bash bash
test_program killed bash
test_program main_leaves gcc

echo "traced_programs: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
