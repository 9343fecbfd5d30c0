#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Removes each of these safeguards in its turn (src/broken.rs), and runs rcutorture until it fails by what that
# safeguard is for. One that nothing misses is a hole in rcutorture, and fails this. Each set of options runs first
# with nothing removed from the same library, and must pass.
#   broken.sh BUILD-DIRECTORY [SAFEGUARD...]
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
full_speed="--plain --readers 0 --idle 0 --fakewriters 0 --writers 0 --updaters 1 --type notrace"
resting="--plain --readers 4 --idle 4 --fakewriters 0 --writers 0 --updaters 1 --type notrace"
# What it must say. That a path was never taken is not enough: others may keep the processors busy.
early="pipe count|grace periods ended during a section|has passed in the section|before the end of a section"
hang="hangs:|status 0x(e|9)$"
crash="ended by signal (4|6|7|11)$|status 0x(4|6|7|b|84|86|87|8b)$|^rcu-notrace:"
# safeguard|what it says|options; without any, all of it
all="
heavy-barrier|$early|$full_speed --mode auto --bulk 4
transient-wait|$early|
newcomers|$early|
exit-removal|$early|$crash|$hang|
vfork-check|$early|$crash|$hang|
fork-reset|$early|$crash|$hang|of a child|
park-unflagged|$early|$resting --mode auto
handler-report|$early|
double-push|$early|$hang|
alone|$early|
callback-grace-period|$early|
callback-barrier|rcu_barrier returned|called after rcu_barrier|
boost|as long as the hog|
boost-return|is still lent priority|
probe-barrier|a probe is called|
"
output=$(mktemp)
trap 'rm -f "$output"' EXIT

run() { # safeguard, seconds, options; how it ended is left in $output too
    # shellcheck disable=SC2086
    {
        RCU_NOTRACE_BROKEN=$1 LD_LIBRARY_PATH=$build/broken timeout -k 5 120 \
            "$build/torture/rcutorture.shared" --seconds "$2" --stats 100000 --watchdog 6 $3 >"$output" 2>&1
    } 2>/dev/null
    local status=$?
    # 124, 137: out of time.
    if [ $status -gt 128 ] && [ $status != 137 ]; then echo "ended by signal $((status - 128))" >>"$output"; fi
    return $status
}

caught=0 survived=0
fails() {
    echo "not ok torture: $1"
    tail -n 4 "$output"
    survived=$((survived + 1))
}

declare -A passes skips
while IFS= read -r line; do
    [ -n "$line" ] || continue
    safeguard=${line%%|*} options=${line##*|}
    says=${line#*|} says=${says%|*}
    if [ $# -gt 0 ] && [[ " $* " != *" $safeguard "* ]]; then continue; fi
    if [ -z "${passes[_$options]-}" ]; then
        if ! run "" 8 "$options"; then
            fails "with nothing removed: ${options:-all of it}"
            continue
        fi
        passes[_$options]=1
        skips[_$options]=$(grep -a '^rcu-torture: SKIP:' "$output")
    fi
    skip=$(grep -m 1 "SKIP: ${safeguard%-return}" <<<"${skips[_$options]}")
    if [ -n "$skip" ]; then
        echo "ok torture: SKIP $safeguard, $skip"
        continue
    fi
    begin=$(date +%s%N)
    said=""
    for try in 1 2 3; do
        if run "$safeguard" 30 "$options"; then continue; fi
        took=$((($(date +%s%N) - begin) / 1000000))
        said=$(grep -am 1 -E "$says" "$output") || continue
        # On a busy machine something may take its time. Then it must not with nothing removed.
        grep -qE "$hang" <<<"$said" || break
        if run "" 8 "$options"; then break; fi
        said=""
    done
    if [ -n "$said" ]; then
        echo "ok torture: without $safeguard ($took ms): $said"
        caught=$((caught + 1))
    else
        fails "$safeguard survived $try runs"
    fi
done <<<"$all"
echo "torture, broken: $caught passed, $survived failed"
[ $survived = 0 ]
