#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The tests of the preloaded library: a program that uses the IPI's signal in every way hears the same with it and
# without, while IPIs arrive; threads answer IPIs under it, and not without; builds that lack a safeguard are noticed.
#   test.sh BUILD-DIRECTORY [long]
# Long: with other signals too, storms at their full length, and the builds that lack a safeguard.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
length=${2:-}
library=$PWD/$build/preload/librcu_notrace_preload.so
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT
passed=0 failed=0 skipped=0

ok() {
    echo "ok preload: $*"
    passed=$((passed + 1))
}

not_ok() {
    echo "not ok preload: $*"
    failed=$((failed + 1))
}

answers() { # library, mode, signal, options
    local preload=$1 mode=$2 signal=$3
    shift 3
    RCU_NOTRACE_IPI=$mode RCU_NOTRACE_SIGNAL=$signal LD_PRELOAD=$preload timeout 60 "$build/preload/answers" "$@"
}

# What the scenarios counted of this, together.
sum() {
    local number total=0
    while read -r number; do
        total=$((total + number))
    done < <(sed -n "s/.* $1 \([0-9]*\),.*/\1/p" "$output/said")
    echo "$total"
}

signals=23
if [ "$length" = long ]; then signals="23 10 39"; else export STORM_MS=500; fi
for signal in $signals; do
    answers "" auto $signal >"$output/plain" 2>&1
    status=$?
    if [ $status != 0 ] || grep -q 'cannot go on' "$output/plain"; then
        not_ok "the program fails without the library, with signal $signal: $status"
        grep 'cannot go on\|status' "$output/plain"
        continue
    fi
    grep '^  SKIP' "$output/plain" | sed 's/^  SKIP/ok preload: answers/; s/$/ # SKIP/'
    skipped=$((skipped + $(grep -c '^  SKIP' "$output/plain")))
    for mode in auto signal; do
        answers "$library" $mode $signal -i >"$output/preloaded" 2>"$output/said"
        ipis=$(sum IPIs) handled=$(sum handler)
        lines=$(wc -l <"$output/plain")
        if ! diff "$output/plain" "$output/preloaded" >"$output/diff"; then
            not_ok "with signal $signal in mode $mode the program is told something else:"
            head -n 20 "$output/diff"
        elif [ $mode = signal ] && [ "${handled:-0}" -lt 200 ]; then
            not_ok "in mode $mode only ${handled:-no} IPIs were answered by the handler"
        else
            ok "signal $signal, mode $mode: the same $lines lines, $ipis IPIs, $handled answered by the handler"
        fi
    done
done

LD_PRELOAD=$library timeout 300 "$build/preload/alive" >"$output/alive" 2>&1
status=$?
cat "$output/alive"
passed=$((passed + $(grep -c '^ok .*[^P]$' "$output/alive")))
skipped=$((skipped + $(grep -c '^ok .*# SKIP$' "$output/alive")))
failed=$((failed + $(grep -c '^not ok' "$output/alive")))
[ $status -lt 2 ] || not_ok "alive ended with status $status"

# Without the library what it is there for does not hold, by what the scenario's program does: the handler is there at the
# beginning.
while IFS=: read -r scenario reason; do
    SCENARIO_SECONDS=15 timeout 30 "$build/preload/alive" "$scenario" >"$output/alive" 2>&1
    status=$?
    if [ $status = 1 ] && grep -qxF "    FAILED: $reason" "$output/alive"; then
        ok "$scenario fails without the library: $reason"
    else
        not_ok "$scenario without the library: status $status, and not that $reason"
        cat "$output/alive"
    fi
done <<'END'
a_thread_that_blocks_the_signal:the signal is blocked in the kernel's mask
a_thread_that_blocks_all_signals:the signal is blocked in the kernel's mask
a_thread_that_was_created_with_all_blocked:the signal is blocked in the kernel's mask
a_thread_answers_where_the_signal_is_ignored:the kernel ignores the signal
a_thread_answers_where_the_signal_is_left_to_default:the kernel does what it does by default on the signal
a_thread_that_replaces_the_handler:the signal's handler is not the library's
a_thread_in_sigtimedwait:the signal is blocked in the kernel's mask
a_thread_that_reads_a_signalfd:the signal is blocked in the kernel's mask
a_thread_in_ppoll_with_all_blocked:the signal does not get into a wait with all blocked
handlers_of_other_signals_that_block_all:the signal is blocked in the kernel's mask
children_of_fork:the signal is blocked in the kernel's mask
END

# safeguard's number, test, scenario, and of `alive` what it says: it is not to fail of something else
rows=""
[ "$length" = long ] && rows="1:answers:from_another_process
2:alive:handlers_of_other:the signal is blocked in the kernel's mask
3:answers:interrupted_calls
4:answers:images
5:alive:no_signal_is_lost:FAILED: thread [0-9]* got [0-9]* signals of [0-9]*
6:answers:child_of_vfork
7:answers:signal_files
8:alive:pause_ends:FAILED: .*has_paused
9:answers:handled_before_a_wait_returns
10:alive:children_forked_amid:the stand-in's handler is not the library's
11:answers:files_that_look_like_signals
12:answers:handlers_that_end_pause
13:answers:sandbox_that_answers_by_a_signal
14:alive:a_thread_in_a_sandbox_that_kills:ended by signal 31"
while IFS=: read -r number test scenario reason; do
    [ -n "$number" ] || continue
    broken=$PWD/$build/preload/broken_$number.so
    if ! ${MAKE:-make} --no-print-directory --silent PRELOAD_BROKEN=$number "$build/preload/broken_$number.so"; then
        not_ok "build $number fails"
        continue
    fi
    if [ "$test" = alive ]; then
        SCENARIO_SECONDS=15 LD_PRELOAD=$broken timeout 30 "$build/preload/alive" $scenario >"$output/broken" 2>&1
        [ $? != 1 ] || ! grep -q "$reason" "$output/broken"
    else
        answers "" auto 23 $scenario >"$output/plain" 2>&1
        answers "$broken" signal 23 -i $scenario 2>/dev/null >"$output/broken" &&
            diff "$output/plain" "$output/broken" >/dev/null
    fi
    survived=$?
    says=$output/broken
    [ "$test" = alive ] || says=$output/plain
    if [ $survived = 0 ] && grep -q '^ *SKIP' "$says"; then
        echo "ok preload: broken build $number: $(grep -m 1 '^ *SKIP' "$says") # SKIP"
        skipped=$((skipped + 1))
    elif [ $survived = 0 ]; then
        not_ok "broken build $number survives $scenario, or fails of something else"
        tail -n 5 "$output/broken"
    else
        ok "broken build $number fails $scenario"
    fi
done <<<"$rows"
echo "preload: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
