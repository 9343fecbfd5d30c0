#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Removes each of these safeguards in its turn (src/broken.rs), and runs rcutorture until it fails. One that nothing
# misses is a hole in rcutorture, and fails this.
#   broken.sh BUILD-DIRECTORY [SAFEGUARD...]
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
full_speed="--plain --readers 0 --idle 0 --fakewriters 0 --writers 0 --updaters 1 --type notrace"
resting="--plain --readers 4 --idle 4 --fakewriters 0 --writers 0 --updaters 1 --type notrace"
# safeguard|options; without any, all of it
all="
heavy-barrier|$full_speed --mode auto --bulk 4
transient-wait|
newcomers|
exit-removal|
vfork-check|
fork-reset|
park-unflagged|$resting --mode auto
handler-report|
double-push|
alone|
callback-grace-period|
callback-barrier|
boost|
boost-return|
probe-barrier|
"
output=$(mktemp)
trap 'rm -f "$output"' EXIT
caught=0 survived=0
while IFS='|' read -r safeguard options; do
    [ -n "$safeguard" ] || continue
    if [ $# -gt 0 ] && [[ " $* " != *" $safeguard "* ]]; then continue; fi
    begin=$(date +%s%N)
    for try in 1 2 3; do
        # shellcheck disable=SC2086
        RCU_NOTRACE_BROKEN=$safeguard LD_LIBRARY_PATH=$build/broken timeout -k 5 120 \
            "$build/torture/rcutorture.shared" --seconds 30 --stats 100000 --watchdog 6 $options >"$output" 2>&1
        status=$?
        [ $status = 0 ] || break
    done
    took=$((($(date +%s%N) - begin) / 1000000))
    if [ $status = 0 ]; then
        if grep -qa "^rcu-torture: SKIP: ${safeguard%-return}" "$output"; then
            echo "ok torture: SKIP $safeguard, $(grep -am 1 SKIP: "$output")"
            continue
        fi
        echo "not ok torture: $safeguard survived $try runs"
        survived=$((survived + 1))
    else
        echo "ok torture: without $safeguard ($took ms):" \
            "$(grep -am 1 -E 'FAILURE|never taken|^rcu-notrace:' "$output" || echo "status $status")"
        caught=$((caught + 1))
    fi
done <<<"$all"
echo "torture, broken: $caught passed, $survived failed"
[ $survived = 0 ]
