#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# ThreadSanitizer, gcc's and clang's: a program without mistakes passes, each mistake is reported, and not any more
# when it is mended; the first is reported all over if the headers tell nothing.
#   tsan.sh BUILD-DIRECTORY [long]
# long: all IPI modes, the archive, the portable reader; and without each line of rcu_notrace/tsan.h that tells something.
. "$(dirname "$0")/common.sh"
long=${2:-}
headers=include
export TSAN_OPTIONS=atexit_sleep_ms=0:exitcode=66

compile() { # SOURCE OUTPUT FLAGS...
    local source=$1 output=$2
    shift 2
    $compiler -fsanitize=thread $flags "-I$headers" "c-tests/sanitize/$source" -o "$work/$output" "$@" -pthread
}

run() { # SECONDS PROGRAM ARGUMENTS... - its output is in `output` then
    timeout "$1" "${@:2}" >"$work/output" 2>&1
}

clean() { # NAME PROGRAM
    run 120 "$work/$2"
    verdict "$compiler: $1" $? "$work/output"
    grep -q '# SKIP$' "$work/output" && grep SKIP: "$work/output"
    grep -E '^    (handlers|registered)' "$work/output"
}

# What must be in the report: both threads.
racy() {
    local mistake
    for mistake in $("$work/racy.$compiler"); do
        run 20 "$work/racy.$compiler" "$mistake"
        local status=$?
        if [ $status = 66 ] && grep -q 'ThreadSanitizer: \(data race\|heap-use-after-free\)' "$work/output" &&
            grep -q 'Previous \(write\|read\|atomic write\|atomic read\)' "$work/output"; then
            run 20 "$work/racy.$compiler" "$mistake" mended
            verdict "$compiler: $mistake is reported, and clean when mended" $? "$work/output"
        else
            verdict "$compiler: $mistake is reported" "$status, no report" "$work/output"
        fi
    done
}

# A safeguard's line after the other, from the header's copies: each is to be missed.
without_each() {
    local line count=0 text mutant=$work/without headers=$work/without
    rm -rf "$mutant"
    cp -r include "$mutant"
    for file in rcu_notrace/tsan.h rcu_notrace/tracepoint.h; do
        for line in $(grep -nE '^    +(RCU_NOTRACE_TSAN_(AFTER|BEFORE)|__tsan_(acquire|release)|AnnotateIgnore.*Begin)' \
            "include/$file" | cut -d: -f1); do
            # Callbacks that are run by several threads: where no thread can be created.
            sed -n "$((line - 1)),${line}p" "include/$file" | grep -q '{$' &&
                sed -n "${line}p" "include/$file" | grep -q 'AFTER(rcu_barrier' &&
                sed -n "$((line + 1))p" "include/$file" | grep -q AFTER && continue
            text=$(sed -n "${line}s/ *\\(.*\\);.*/\\1/p" "include/$file")
            sed "${line}s/[A-Za-z_]*(.*);/;/" "include/$file" >"$mutant/$file"
            compile tsan_clean.c without.program -Wno-error $shared 2>"$work/output" ||
                { verdict "without $file:$line" 1 "$work/output"; continue; }
            # Which of two threads is first may be a matter of luck.
            count=0
            until ! run 120 "$work/without.program" || [ $((count += 1)) = 3 ]; do :; done
            [ $count -lt 3 ]
            verdict "$compiler: without $file:$line, $text, there is a report (run $((count < 3 ? count + 1 : 3)))" $?
        done
        cp "include/$file" "$mutant/$file"
    done
}

for compiler in gcc clang; do
    case $compiler in gcc) package=libtsan2 ;; *) package=libclang-rt-14-dev ;; esac
    sanitizes $compiler thread $package || continue
    compile tsan_clean.c "clean.$compiler" $shared || { verdict "$compiler builds" 1; continue; }
    compile tsan_clean.c "untold.$compiler" -DRCU_NOTRACE_NO_TSAN $shared || { verdict "$compiler builds" 1; continue; }
    compile tsan_racy.c "racy.$compiler" $shared || { verdict "$compiler builds" 1; continue; }
    clean "a program without mistakes is clean" "clean.$compiler"
    run 120 "$work/untold.$compiler"
    reported=$(grep -c '^not ok' "$work/output")
    [ "$reported" = 4 ]
    verdict "$compiler: each of its four scenarios is reported if ThreadSanitizer is told nothing" $? "$work/output"
    racy
    [ "$long" ] || continue
    for mode in signal membarrier; do
        export RCU_NOTRACE_IPI=$mode
        clean "the same in mode $mode" "clean.$compiler"
    done
    unset RCU_NOTRACE_IPI
    compile tsan_clean.c static "-DRCU_NOTRACE_STATIC" "$build/librcu_notrace.a" &&
        clean "the same with the archive" static
    compile tsan_clean.c portable "-DRCU_NOTRACE_PORTABLE" "-L$build/portable" -lrcu_notrace \
        "-Wl,-rpath,$build/portable" && clean "the same with the portable reader" portable
    compile tsan_clean.c optimized -O3 $shared && clean "the same with -O3" optimized
done
compiler=gcc
[ "$long" ] && sanitizes gcc thread libtsan2 && without_each
finish
