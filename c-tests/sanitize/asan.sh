#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# AddressSanitizer and UndefinedBehaviorSanitizer on the C of headers, tests, torture, tracers and the preloaded library.
#   asan.sh BUILD-DIRECTORY [long]
# Quick: the tests of sections, polling and bad use; hostile input to the recorder. long: all of it, and clang's.
. "$(dirname "$0")/common.sh"
long=${2:-}
export ASAN_OPTIONS=detect_stack_use_after_return=1:abort_on_error=0:exitcode=99
export UBSAN_OPTIONS=print_stacktrace=1
export SCENARIO_SECONDS=60
both="-fsanitize=address,undefined -fno-sanitize-recover=all"
undefined="-fsanitize=undefined -fno-sanitize-recover=all"

# What cannot be under AddressSanitizer, and why.
#   threads_that_exit_in_any_way_hold_up_nothing, threads_that_exit_leave_both_registries: threads end by the raw system
#       call, of which its list of threads learns nothing: it aborts in the next thread
#   children_of_a_busy_process_go_on_alone, fork_leaves_a_table_in_use_usable_in_child_and_parent, two_tables_fork_once:
#       its allocator's locks are not held over fork(): the child waits for ever, in calloc()
#   drained_and_killed: likewise; its children create threads while another thread may allocate
#   storm_of_handlers: handlers meet changes of chunks more often than it allows, so slow are those
#   corners, exits, callbacks, events, tracepoints: they have a malloc or free of their own. UndefinedBehaviorSanitizer alone
#   children, faults, hostile, crowd, steps, forks, waits: they refuse system calls, limit the address space, count threads by the
#       thousand, fork among them, or go through code in single steps: likewise. (schedules wants a breakable library.)
#   torture's forks: its allocator, as above
#   main_thread_exits_in_another_root, main_thread_exits_without_descriptors, sandbox_that_answers_by_a_signal: it looks
#       for leaks at the end of a process, and ends that with an error where it cannot open /proc, or by a call that a
#       sandbox traps
export SCENARIO_EXCEPT=
not_at_an_end="main_thread_exits_in_another_root main_thread_exits_without_descriptors sandbox_that_answers_by_a_signal"
not_under_asan="threads_that_exit_in_any_way_hold_up_nothing threads_that_exit_leave_both_registries
    children_of_a_busy_process_go_on_alone fork_leaves_a_table_in_use_usable_in_child_and_parent two_tables_fork_once"

# A verdict, with the last line of what was said.
last_line() { # NAME STATUS
    verdict "$1: $(tail -n 1 "$work/output")" "$2" "$work/output"
}

compile() { # SANITIZERS TEST SUFFIX
    local libs=
    [ "$2" != tracepoints ] || cp "$build/c-tests/tracepoints_module.so" "$work/"
    [ "$2" != tracepoints ] || libs="-Wl,-rpath,$build/c-tests -rdynamic -ldl $build/c-tests/tracepoints_provider.so"
    [ "$2" != crowd ] || cp "$build/c-tests/crowd_module.so" "$work/"
    [ "$2" != crowd ] || libs="-Wl,-rpath,$build/c-tests -rdynamic -ldl $build/c-tests/crowd_first.so"
    [ "$2" != urcu ] || libs="-lurcu-cds -lurcu-common"
    [ "$2" != record ] || libs="-L$work/tracers -lrcutrace -Wl,-rpath,$work/tracers"
    $compiler $1 $flags -Iinclude "c-tests/$2.c" -o "$work/$2$3" $libs $shared -pthread
}

check() { # SANITIZERS SUFFIX TEST...
    local sanitizers=$1 suffix=$2 test
    shift 2
    checked+=" $* "
    for test; do
        if ! compile "$sanitizers" "$test" "$suffix" 2>"$work/output"; then
            verdict "$compiler: $test$suffix builds" 1 "$work/output"
            continue
        fi
        timeout 280 "$work/$test$suffix" >"$work/output" 2>&1
        local status=$?
        cp "$work/output" "$work/$compiler.$test$suffix.log"
        grep -h -A 3 '^not ok\|runtime error\|ERROR: ' "$work/output"
        verdict "$compiler $sanitizers: $test: $(tail -n 1 "$work/output")" $status "$work/output"
        grep -h SKIP: "$work/output"
    done
}

torture() { # SANITIZERS OPTION...
    local sanitizers=$1
    shift
    $compiler $sanitizers $flags -Iinclude torture/*.c -o "$work/rcutorture" $shared -pthread 2>"$work/output" &&
        timeout 200 "$work/rcutorture" --seconds 10 --stats 100000 --mode random "$@" >"$work/output" 2>&1
    last_line "$compiler $sanitizers: torture $*" $?
}

recorder() { # SANITIZERS
    mkdir -p "$work/tracers"
    $compiler $1 $flags -Iinclude -fPIC -ftls-model=initial-exec -fvisibility=hidden -shared \
        -o "$work/tracers/librcutrace.so" tracers/{record,session,process,maps,tracers,control,stack}.c $shared \
        -Wl,-soname,librcutrace.so -pthread 2>"$work/output"
    verdict "$compiler $1: the recorder builds" $? "$work/output"
}

# The recorder's sources with the program that knocks at their doors.
hostile() { # SANITIZERS CASES
    $compiler $1 $flags -Iinclude c-tests/sanitize/hostile_tracers.c tracers/{record,session,maps,tracers,stack}.c \
        -o "$work/hostile_tracers" $shared -pthread 2>"$work/output" &&
        RCUTRACE_CONTROL=0 timeout 300 "$work/hostile_tracers" "$2" >"$work/output" 2>&1
    last_line "$compiler $1: hostile input to the recorder" $?
}

checked=' schedules two_archives usdt ' # the broken builds' alone; no tests by themselves
compilers=gcc
[ "$long" ] && compilers="gcc clang"
for compiler in $compilers; do
    case $compiler in gcc) package="libasan8 libubsan1" ;; *) package=libclang-rt-14-dev ;; esac
    sanitizes $compiler address,undefined "$package" || continue
    SCENARIO_EXCEPT=$not_under_asan
    if [ ! "$long" ]; then
        check "$both" .asan sections bad_use polled
        hostile "$both" 6000
        continue
    fi
    check "$both" .asan sections bad_use polled grace_periods life messages flavours storm litmus stall boost unreachable
    if echo '#include <urcu/rculfhash.h>' | $compiler -xc -E -o /dev/null - 2>/dev/null; then
        check "$both" .asan urcu
    else
        checked+=' urcu '
        skip "$compiler: urcu" "liburcu's headers are missing (apt-get install liburcu-dev)"
    fi
    SCENARIO_EXCEPT=
    check "$undefined" .ubsan corners exits callbacks children events tracepoints life flavours faults hostile \
        crowd steps forks waits
    torture "$undefined"
    torture "$both" --no-forks
    hostile "$both" 100000
    recorder "$undefined"
    check "$undefined" .ubsan record
    recorder "$both"
    SCENARIO_EXCEPT="drained_and_killed storm_of_handlers $not_at_an_end"
    check "$both -DASAN" .asan record
done

# What is preloaded, under malloc: no runtime, a trap. Their own tests run them.
if [ "$long" ] && sanitizes gcc undefined libubsan1; then
    mkdir -p "$work/trap/tracers"
    cp -a "$build"/{cargo.a,symbols,version-script,rcu_notrace.o,librcu_notrace*} "$work/trap/"
    cp -a "$build/tracers/rcutrace" "$work/trap/tracers/"
    ${MAKE:-make} --no-print-directory -s B="$work/trap" tracers \
        CFLAGS='-O2 -g -fsanitize=undefined -fsanitize-undefined-trap-on-error' >"$work/output" 2>&1
    verdict "the tracers build with traps" $? "$work/output"
    timeout 500 c-tests/tracers.sh "$work/trap" >"$work/output" 2>&1
    last_line "the tracers with traps" $?
    trap=$(realpath --relative-to=. "$work/trap")
    ${MAKE:-make} --no-print-directory -s B="$trap" preload "$trap/preload/answers" "$trap/preload/alive" \
        CFLAGS='-O2 -g -fsanitize=undefined -fsanitize-undefined-trap-on-error' >"$work/output" 2>&1
    verdict "the preloaded library builds with traps" $? "$work/output"
    timeout 500 preload/test.sh "$trap" >"$work/output" 2>&1
    last_line "the preloaded library with traps" $?
fi
if [ "$long" ]; then
    grep -l '^int main' c-tests/*.c | while read -r file; do
        name=$(basename "$file" .c)
        [[ $checked = *" $name "* ]] || echo "$name"
    done >"$work/output"
    verdict "no test was forgotten" $(($(wc -l <"$work/output") != 0)) "$work/output"
fi
finish
