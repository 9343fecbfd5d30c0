#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Verifies the models of formal/table, exhaustively, each with its configuration; and each again with a
# safeguard removed: where an error must be found (!), or where none is and the safeguard is redundant (~).
#   check.sh quick|long BUILD-DIRECTORY [WORD...]      rows with one of these words in their name only
set -u
which=$1
mkdir -p "$2" || exit 1
build=$(cd "$2" && pwd)
shift 2
cd "$(dirname "$0")" || exit 1
command -v spin >/dev/null 2>&1 || {
    echo "ok models # SKIP"
    echo "SKIP: models: spin is missing: apt-get install spin"
    exit 0
}
passed=0 failed=0
printf '%-38s %-8s %12s %7s %8s %9s\n' model expected states depth seconds megabytes
while IFS='|' read -r name model when expected search flags; do
    read -r name <<<"$name"
    [ -n "$name" ] && [[ $name != \#* ]] || continue
    read -r model <<<"$model"; read -r when <<<"$when"; read -r expected <<<"$expected"; read -r search <<<"$search"
    [ "$which" = long ] || [ "$when" = quick ] || continue
    if [ $# -gt 0 ]; then
        wanted=
        for word in "$@"; do [[ $name == *$word* ]] && wanted=1; done
        [ -n "$wanted" ] || continue
    fi
    directory=$build/${name//[^a-zA-Z0-9_-]/_}
    rm -rf "$directory" && mkdir -p "$directory" && cp ./*.pml ./*.h "$directory" || exit 1
    # Safety: assertions and invalid end states. Progress: no cycle without progress, under weak fairness
    # (progress.h).
    case $search in
    safety) compile='-DSAFETY' run='' ;;
    ordered) compile='-DSAFETY -DNOREDUCE' run='' ;;
    progress) compile='-DNP -DNFAIR=3 -DNOREDUCE' run='-l -f' flags="$flags -DLIVE" ;;
    esac
    # Where a reclaimed read is asked for, a grace period or a report that never comes is no answer.
    [ "$expected" = used ] && run=-E flags="$flags -DUSED"
    # Nor is a promise that is not kept one where a cycle is asked for.
    [ "$expected" = cycle ] && run="$run -A"
    # Most of what is broken is found sooner than an optimizing compiler is done.
    optimize=-O1
    [ "$expected" = pass ] || optimize=-O0
    begin=$(date +%s%N)
    # shellcheck disable=SC2086
    (cd "$directory" && spin -a $flags "$model" >spin.out 2>&1 &&
        ${CC:-cc} "$optimize" -w $compile -DCOLLAPSE -DMEMLIM=12000 -o pan pan.c >cc.out 2>&1 &&
        timeout "${MODEL_SECONDS:-3600}" nice ./pan -m3000000 -n $run >pan.out 2>&1)
    took=$((($(date +%s%N) - begin) / 1000000))
    out=$directory/pan.out
    said=$(grep -m 1 '^pan:1:' "$out" 2>/dev/null | sed 's/^pan:1: //; s/ (at depth.*//')
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$out" 2>/dev/null | head -n 1)
    depth=$(sed -n 's/.*depth reached \([0-9]*\).*/\1/p' "$out" 2>/dev/null)
    memory=$(sed -n 's/^ *\([0-9.]*\)\t*total actual memory usage.*/\1/p' "$out" 2>/dev/null)
    printf '%-38s %-8s %12s %7s %8s %9s  %s\n' "$name" "$expected" "${states:--}" "${depth:--}" \
        "$((took / 1000)).$((took % 1000 / 100))" "${memory:--}" "$said"
    # Whole: the search ended by itself, and nothing was too deep or too large for it.
    if ! grep -q 'errors: ' "$out" 2>/dev/null || grep -qE 'max search depth too small|out of memory|Search not completed' "$out" &&
        [ -z "$said" ]; then
        verdict=unfinished
    elif [ -n "$said" ]; then
        verdict=fail
    else
        verdict=pass
    fi
    case $expected:$verdict:$said in
    pass:pass:*) passed=$((passed + 1)) ;;
    # An index out of range is a fault of the model.
    fail:fail:*'invalid array index'*) failed=$((failed + 1)); echo "not ok model $name: a fault of its own; see $directory" ;;
    fail:fail:'assertion violated'* | fail:fail:'invalid end state'*) passed=$((passed + 1)) ;;
    used:fail:*'version'*'>=reclaimed'*) passed=$((passed + 1)) ;;
    cycle:fail:non-progress*) passed=$((passed + 1)) ;;
    *) failed=$((failed + 1)); echo "not ok model $name: $expected expected, $verdict found; see $directory" ;;
    esac
    [ -n "${KEEP:-}" ] || rm -f "$directory"/pan "$directory"/pan.[bchmpt]
done <table
echo "models: $passed as expected, $failed not"
[ $failed = 0 ] && [ $passed -gt 0 ]
