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
event-mark:events:auto:does_not_recurse
event-unlock:events:auto:the_notrace_pair_tells_nothing
event-lock:events:auto:threads_end_while
event-fork:events:auto:may_fork_behind
event-fork-round:events:auto:may_fork_behind
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
echo "broken: $caught passed, $survived failed"
[ $survived = 0 ]
