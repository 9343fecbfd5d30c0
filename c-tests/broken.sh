#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the library once without each of its safeguards, and runs the tests until one notices.
# A build that survives is a hole in the tests, and fails this.
#   broken.sh BUILD-DIRECTORY [SAFEGUARD...]
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
# safeguard: test, IPI mode, scenario that notices
all="
heavy-barrier:storm:auto:short_sections
transient-wait:sections:auto:first_section
newcomers:sections:auto:thousand_threads
exit-removal:life:auto:thousands_of_short
probation:corners:auto:last_clean_up
vfork-check:corners:signal:vfork_child
fork-reset:life:auto:children
unlock-report:grace_periods:auto:blocked_reader
park-unflagged:storm:auto:short_sections
handler-flag:grace_periods:signal:blocked_reader
handler-report:storm:signal:signals_hit
double-push:storm:signal:idle_readers
alone:storm:auto:short_sections
callback-grace-period:callbacks:auto:none_runs_before
callback-barrier:callbacks:auto:barriers_wait
boost:boost:auto:a_preempted_reader
boost-return:boost:auto:a_preempted_reader
scheduler-mark:unreachable:signal:never_leaves_its_processor
scheduler-age:unreachable:signal:never_leaves_its_processor
probe-grace-period:tracepoints:auto:no_probe_sees_anothers_data
probe-barrier:tracepoints:auto:no_probe_sees_anothers_data
probe-stub:tracepoints:auto:a_removal_without_memory
one-byte:tracepoints:auto:a_switch_is_in_effect
flip-back:tracepoints:auto:where_patching_is_refused_later
module-going:tracepoints:auto:modules_come_and_go
probe-mend:tracepoints:auto:nobody_told_the_library_of_mend
fork-first:tracepoints:auto:children_of_fork
"
caught=0 survived=0
export SCENARIO_SECONDS=10
for row in $all; do
    IFS=: read -r safeguard test mode scenario <<<"$row"
    if [ $# -gt 0 ] && [[ " $* " != *" $safeguard "* ]]; then continue; fi
    directory=$build/broken/$safeguard
    if ! ${MAKE:-make} --no-print-directory --silent BROKEN="$safeguard" "$directory/librcu_notrace.so"; then
        echo "not ok broken: $safeguard does not build"
        survived=$((survived + 1))
        continue
    fi
    if ! RCU_NOTRACE_IPI=$mode timeout 60 "$build/c-tests/$test" "$scenario" \
        >"$directory/output" 2>&1; then
        echo "not ok broken: the whole library fails $test $scenario in mode $mode"
        tail -n 3 "$directory/output"
        survived=$((survived + 1))
        continue
    fi
    if grep -q '# SKIP$' "$directory/output"; then
        echo "ok broken: SKIP $safeguard, $test $scenario does not run here:$(grep -m 1 SKIP: "$directory/output")"
        continue
    fi
    begin=$(date +%s%N)
    for try in 1 2 3; do
        LD_LIBRARY_PATH=$directory RCU_NOTRACE_IPI=$mode timeout 60 "$build/c-tests/$test" "$scenario" \
            >"$directory/output" 2>&1
        status=$?
        [ $status = 0 ] || break
    done
    took=$((($(date +%s%N) - begin) / 1000000))
    if [ $status = 0 ]; then
        echo "not ok broken: $safeguard survived $test $scenario in mode $mode, $try times"
        tail -n 3 "$directory/output"
        survived=$((survived + 1))
    else
        echo "ok broken: without $safeguard, $test $scenario in mode $mode fails ($took ms)"
        caught=$((caught + 1))
    fi
done
if [ $# = 0 ]; then
    # Threads that allocate while the list of probes is replaced every millisecond.
    program="import threading
def churn():
    for _ in range(300000): bytearray(600)
threads = [threading.Thread(target=churn) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()"
    output=$build/broken/output
    if ! command -v python3 >/dev/null; then
        echo "ok broken: SKIP heap-grace-period, python3 is missing"
    elif RCU_HEAP_LIBRARY=$build/broken/librcu_heap.so PYTHONMALLOC=malloc timeout 60 \
        "$build/tracers/rcu-heap" --toggle 1 -o /dev/null -- python3 -c "$program" >"$output" 2>&1; then
        echo "not ok broken: heap-grace-period survived the heap tracer's probes"
        survived=$((survived + 1))
    elif grep -q "after its grace period" "$output"; then
        echo "ok broken: without heap-grace-period, a probe of the heap tracer finds its data poisoned"
        caught=$((caught + 1))
    else
        echo "not ok broken: heap-grace-period failed for another reason"
        cat "$output"
        survived=$((survived + 1))
    fi
fi
echo "broken: $caught passed, $survived failed"
[ $survived = 0 ]
